//go:build !race

package world

// defaultSeeds is how many seeds an ordinary run plays.
const defaultSeeds = 200
