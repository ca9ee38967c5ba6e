// Package config turns a TOML file into a checked, typed configuration, shows
// it, changes it in place, and tells what differs between two.
//
// One table of keys (schema.go) holds each key's name, type, default, meaning,
// and whether a reload applies it. Strictness, suggestions for typos, show,
// get, set, diff and the tables of docs/configuration.md all come from it, so
// they cannot disagree.
//
// Errors carry file, line and column, all of a file at once, ordered by
// position. Columns count octets, from 1.
//
// It must not look anything up in DNS, open sockets, or decide what a setting
// means for mail: it only says whether a value is possible. The command line
// calls it to check and change a file, the daemon to load and reload one. It
// starts no goroutine; a *Config is not changed after it was returned, so it
// may be shared.
package config
