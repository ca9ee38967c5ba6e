// Package keyring keeps secrets of our own in a file: keys that nobody else ever
// needs, which make what we later take for genuine (the tags of return paths, the
// tokens of unsubscription). The file is made at its first use; after a while a
// key gets a successor, and opens what it made until that is too old.
//
// It must not say what the keys are for: each use has a file of its own, and
// inside it a label for each purpose, so that what was made for one is worth
// nothing for another. It never logs. It is called by returns and unsubscribe,
// and starts no goroutine.
package keyring
