package dnssec

// privateTLDs are names that the root will never hold, by which offices call
// what is inside: RFC 6762 (local, and those of its appendix G), ICANN's
// resolution of 2024 (internal), and what resolvers put behind bare names. The
// office's server often speaks for them all the way, so that the root's own proof
// that they are not there is not to be had.
var privateTLDs = map[string]bool{
	"local.": true, "localdomain.": true, "internal.": true, "intranet.": true,
	"private.": true, "corp.": true, "home.": true, "lan.": true,
}

// notChecked is the verdict about what is below a private name.
func notChecked(name string) error {
	return insecure("%s is private, and is not checked", name)
}
