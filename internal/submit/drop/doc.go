// Package drop is the door for programs that cannot reach the daemon, because
// it does not run or because their user may not use its socket: they leave the
// message as a file in a folder, and the daemon takes it in. The form of that
// file (Entry) is also how the sendmail command hands a message over the
// control socket, so that a message whose answer was lost can go into the
// folder under the same ID.
//
// The folder has two rooms: "new", in which others may make files but not list
// or read them, and "bad", the daemon's own, for files that cannot become mail,
// each with its reason. A file in new is complete and on stable storage before
// it has its name. It is taken in, and then removed; a crash between the two is
// harmless because the file's name is the message's ID, and intake takes an ID
// once (submit.ErrTaken).
//
// The package decides nothing about mail: content is judged by intake. What a
// file says of its sender is believed as far as that of any local program; whose
// file it is, the file system says.
//
// A Taker owns one goroutine, its helpers for a pass, and the watch of the
// directory; Stop ends them all and waits. A Folder starts none.
package drop
