package main

import (
	"io"

	"mailout/internal/config"
)

// defaultConfig is the configuration file when neither --config nor
// $MAILOUT_CONFIG names one.
const defaultConfig = config.DefaultPath

// globals is what every command's Run gets.
type globals struct {
	Config         string // path of the configuration file
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}
