// Package pickup is the door for programs that send by writing a file: each
// .eml file in a directory is a message. Its envelope stands in X-Sender and
// X-Receiver lines at its top, in a .json file beside it, or else in its own
// header fields.
//
// How a file is taken, and why once:
//
//  1. Looked at. A file that was renamed into the directory is complete (where
//     the system tells of that); any other when size, time and identity stayed
//     the same for the quiet time, by our own clock: those of a file server
//     differ.
//  2. Taken over. It is renamed into the private room ".taken", under a name that
//     begins with the message's ID, and both directories are synced. From here
//     on nobody else has it, and its ID is fixed. With an envelope beside it this
//     takes three renames (see takeOver); a crash between them is seen, and the
//     steps that are missing follow.
//  3. Handed to intake, which takes an ID once (submit.ErrTaken).
//  4. Removed, or moved to the room for done ones. A crash before this repeats 3
//     and is told that the message was taken.
//
// What cannot become mail goes to the room for bad ones with its reason. What
// must wait (a full disk, a rate) stays where it is.
//
// The package decides nothing about mail: content is judged by intake. Every
// path is resolved inside the directory (os.Root), so that those who may write
// there can lead the daemon nowhere else.
//
// A Taker owns one goroutine, its helpers for a pass, and the watch of the
// directory; Stop ends them all and waits.
package pickup
