//go:build race

package world

// defaultSeeds is how many seeds an ordinary run plays; the race detector makes
// everything ten times slower.
const defaultSeeds = 15
