//go:build !unix

package drop

import "io/fs"

const noFollow = 0

func ours(fs.FileInfo) bool { return true }

type reading uint8

const (
	readByNobody reading = iota
	readByOwner
	readByGroup
)

func readers(fs.FileInfo, fs.FileInfo) reading { return readByOwner }

func links(fs.FileInfo) uint64 { return 1 }

func ownerOf(fs.FileInfo) string { return "" }
