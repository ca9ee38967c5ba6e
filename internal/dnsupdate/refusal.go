package dnsupdate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"
)

// Error is a server's refusal of an update.
type Error struct {
	Server netip.AddrPort
	Zone   string // without the trailing dot
	Code   string // "REFUSED", "BADKEY", …
	Text   string // what it means and what to do
	rcode  int
}

// Error gives one sentence: who, what, what to do.
func (e *Error) Error() string {
	return fmt.Sprintf("the DNS server %s did not change %s (%s): %s", e.Server, e.Zone, e.Code, e.Text)
}

// IsChanged reports that the update was not made because the records are not
// what they were when it was planned.
func IsChanged(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.rcode {
	case wire.RcodeYXDomain, wire.RcodeYXRrset, wire.RcodeNXRrset, wire.RcodeNameError:
		return true
	}
	return false
}

// judge reads a reply. verified is the error of its signature.
func (u *Updater) judge(server netip.AddrPort, zone string, id uint16, reply *wire.Msg, verified error) error {
	e := &Error{Server: server, Zone: plain(zone), rcode: reply.Rcode, Code: wire.RcodeToString[reply.Rcode]}
	signature := reply.IsTsig()
	switch {
	case reply.Id != id || !reply.Response || reply.Opcode != wire.OpcodeUpdate:
		e.Code, e.Text = "no valid reply", "what it answered belongs to something else; look whether a DNS server listens there"
	case signature != nil && signature.Error != 0:
		// A server that cannot check our signature cannot sign its answer (RFC
		// 8945 5.2.1, 5.2.2).
		e.Code, e.Text = u.keyTrouble(signature)
	case reply.Rcode == wire.RcodeSuccess && u.key.Name != "" && signature == nil:
		e.Code, e.Text = "not signed", "its reply carries no signature of the key, so that anybody may have sent it; look into the zone"
	case reply.Rcode == wire.RcodeSuccess && verified != nil:
		e.Code, e.Text = "wrong signature", "its reply is not signed with our key ("+verified.Error()+"), so that anybody may have sent it; look into the zone"
	case reply.Rcode == wire.RcodeSuccess:
		return nil
	default:
		e.Text = u.trouble(reply.Rcode)
	}
	return e
}

// keyTrouble is what a TSIG error means (RFC 8945 5.2).
func (u *Updater) keyTrouble(t *wire.TSIG) (code, text string) {
	name := plain(u.key.Name)
	switch t.Error {
	case wire.RcodeBadSig:
		return "BADSIG", "it has another secret for the key " + name + ": compare key_secret, and key_algorithm, with the server's configuration"
	case wire.RcodeBadKey:
		return "BADKEY", "it has no key " + name + " with " + plain(u.key.Algorithm) + " that may change this zone: compare key_name and key_algorithm with the server's configuration, and what it lets the key do"
	case wire.RcodeBadTime:
		return "BADTIME", "the clocks differ too much" + u.serverTime(t) + ": set the clock of this machine, or the server's (NTP)"
	case wire.RcodeBadTrunc:
		return "BADTRUNC", "it wants longer signatures of the key " + name + ": set another key_algorithm, on both sides"
	}
	return wire.RcodeToString[int(t.Error)], "it did not accept the signature of the key " + name
}

// serverTime reads the server's clock out of a BADTIME (RFC 8945 5.2.3).
func (u *Updater) serverTime(t *wire.TSIG) string {
	raw, err := hex.DecodeString(t.OtherData)
	if err != nil || len(raw) != 6 {
		return ""
	}
	var seconds int64
	for _, b := range raw {
		seconds = seconds<<8 | int64(b)
	}
	const form = "2006-01-02 15:04:05 MST"
	return fmt.Sprintf(" (here it is %s, there %s)", u.o.Now().UTC().Format(form), time.Unix(seconds, 0).UTC().Format(form))
}

// trouble is what a response code to an update means (RFC 2136 2.2).
func (u *Updater) trouble(rcode int) string {
	switch rcode {
	case wire.RcodeRefused, wire.RcodeNotAuth: // NOTAUTH is also Knot's word for an acl that does not fit
		if u.key.Name == "" {
			return "it does not let this machine change that zone: give a key (key_name and key_secret_file) or allow this machine's address there; or it is a secondary, then name the primary as server"
		}
		return "it does not let the key " + plain(u.key.Name) + " make these changes: allow it there (BIND: update-policy or allow-update; Knot: an acl with action update); or it is a secondary, then name the primary as server"
	case wire.RcodeNotZone:
		return "a name is outside of that zone: correct zone in [identity.dns_update]"
	case wire.RcodeNotImplemented:
		return "it takes no updates: name a server that does, or publish by hand"
	case wire.RcodeFormatError:
		return "it could not read the update: its version may be too old for it"
	case wire.RcodeServerFailure:
		return "it failed while making the change: its log says why (often a zone file or journal that it may not write)"
	case wire.RcodeYXDomain, wire.RcodeYXRrset, wire.RcodeNXRrset, wire.RcodeNameError:
		return "somebody changed these records meanwhile, so nothing was overwritten: look again"
	}
	return "it gave no further reason"
}
