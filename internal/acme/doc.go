// Package acme gets certificates from an authority that speaks ACME (RFC 8555)
// and renews them, by the library certmagic. It keeps them, their keys and the
// account in a folder of its own, and hands them to TLS listeners.
//
// It decides nothing about listeners and reads no configuration. It opens a port
// only while the authority looks at the proof that the name is ours, and only
// the one that Options name.
//
// The daemon makes one Manager. A Manager owns a goroutine for each name; Stop
// ends them and waits. The library's own upkeep of certificates is not used: its
// goroutines cannot be waited for. Two of the library's stay behind Stop: one, up
// to 5 s, keeps the lock file of a request fresh until it sees that it is gone;
// the other, for the life of the process, bounds the requests of an account to an
// authority.
package acme
