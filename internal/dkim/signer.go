package dkim

// SigningKey is a key and the names that its signatures carry.
type SigningKey struct {
	Domain   string // d=, lower-case A-labels
	Selector string // s=
	Key      *Key
}

// Keys says which keys sign a message whose From address is in domain, which is
// in lower-case A-labels. It gives at most MaxSignatures of them, in the order in
// which the signatures stand in the message; none: the message goes unsigned. It
// is called for every message by many at once, must be quick, and what it gives is
// not changed by anybody.
type Keys interface {
	For(domain string) []SigningKey
}

// MaxSignatures bounds the signatures that one message gets.
const MaxSignatures = 4
