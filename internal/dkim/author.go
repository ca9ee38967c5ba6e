package dkim

import (
	"slices"
	"strings"

	"mailout/internal/header"
	"mailout/internal/smtp"
)

// AuthorDomain gives the domain that a message says it is from, which decides
// whose key signs it: that of the first From field, in lower-case A-labels. Of a
// From with several addresses it is the one that Sender names too, as the one who
// sent it for all (RFC 5322 3.6.2), else the first. Empty: there is no From that
// can be read, or its address is in no domain.
func AuthorDomain(h *header.Header) string {
	domains := domainsOf(h, "From")
	switch len(domains) {
	case 0:
		return ""
	case 1:
		return domains[0]
	}
	// Sender has one address; of more the first counts, lest header fields that name
	// a hundred thousand each are compared with one another.
	if sender := domainsOf(h, "Sender"); len(sender) > 0 && slices.Contains(domains, sender[0]) {
		return sender[0]
	}
	return domains[0]
}

// domainsOf gives the domains of the addresses in the first field of that name,
// nil when it cannot be read.
func domainsOf(h *header.Header, name string) []string {
	f, ok := h.Get(name)
	if !ok {
		return nil
	}
	list, err := header.Mailboxes(f.Text())
	if err != nil {
		return nil
	}
	out := list[:0]
	for _, address := range list {
		at := strings.LastIndexByte(address, '@')
		if at < 0 {
			continue
		}
		if d, err := smtp.ParseDomain(address[at+1:], true); err == nil {
			out = append(out, d)
		}
	}
	return out
}
