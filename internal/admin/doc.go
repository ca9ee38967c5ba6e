// Package admin is the control API: what the command line asks the running
// daemon over its Unix socket, as JSON over HTTP (docs/design.md, section 8).
//
// It shows and passes on; it decides nothing about mail. Who may open the
// socket may use it: the socket's file mode is the door. It is called by
// daemon, and by cmd/mailout for the shapes of its answers.
//
// Server.Start owns the goroutines of the HTTP server; Stop ends them.
package admin
