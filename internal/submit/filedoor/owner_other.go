//go:build !unix

package filedoor

import "io/fs"

// NoFollow has no meaning here.
const NoFollow = 0

// Ours cannot tell here, and takes every file for the process's own.
func Ours(fs.FileInfo) bool { return true }

// Links cannot tell here, and says 1.
func Links(fs.FileInfo) uint64 { return 1 }

// Identity cannot tell here, and is the same for all.
func Identity(fs.FileInfo) [2]uint64 { return [2]uint64{} }

// OwnerOf cannot tell here.
func OwnerOf(fs.FileInfo) string { return "" }
