//go:build !unix

package config

import (
	"io/fs"
	"os"
)

// permissionsMean says that mode bits tell who may read a file.
const permissionsMean = false

// keepOwner does nothing: a new file takes its directory's access rights.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }

// GiveTo does nothing here.
func GiveTo(*os.File, string) error { return nil }
