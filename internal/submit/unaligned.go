package submit

import (
	"fmt"

	"mailout/internal/dkim"
	"mailout/internal/header"
	"mailout/internal/mta"
)

// Unaligned says what becomes of a message whose From domain no DKIM key is for:
// whatever signs it, receivers will not take the signature for the author's
// (RFC 9989 4.4.1).
type Unaligned uint8

// The treatments. The zero value asks nobody.
const (
	UnalignedAccepted Unaligned = iota // it is taken
	UnalignedWarned                    // it is taken, counted and told
	UnalignedRefused                   // it is refused: 550 5.7.1
)

// checkAligned looks whether a key of the configuration is for the From domain.
// A message without From gets the return path's, and else our own name: what we
// make ourselves is not refused.
func (d *draft) checkAligned(h *header.Header, from bool) error {
	in := d.intake
	if d.settings.Unaligned == UnalignedAccepted || in.covered == nil || d.request.Ours {
		return nil
	}
	domain := ""
	if from {
		domain = dkim.AuthorDomain(h)
	} else if sender := d.request.Envelope.Sender; sender != "" {
		domain = domainOf(sender)
	} else {
		return nil
	}
	if in.covered(domain) {
		return nil
	}
	if d.settings.Unaligned == UnalignedRefused {
		in.unaligned.refused.Add(1)
		return unaligned(domain)
	}
	in.unaligned.accepted.Add(1)
	if in.tellUnaligned != nil {
		in.tellUnaligned(domain, d.id)
	}
	return nil
}

func unaligned(domain string) *Refusal {
	text := "the From field has no address whose domain can be read, and only domains with a DKIM key here may stand there"
	if domain != "" {
		text = fmt.Sprintf("the From domain %s has no DKIM key here, and mail from such domains is not taken", header.Harmless(domain, 100))
	}
	return refuse(550, mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, "header.from", text)
}

// Unaligned counts the messages since the start whose From domain no key is for:
// taken with a warning, and refused.
func (in *Intake) Unaligned() (accepted, refused int64) {
	return in.unaligned.accepted.Load(), in.unaligned.refused.Load()
}
