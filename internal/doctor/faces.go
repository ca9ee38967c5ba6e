package doctor

import (
	"context"
	"net/netip"
)

// face is one source in one address family, as the world sees it: what
// receivers judge.
type face struct {
	Hostname string     // EHLO name used from it
	V6       bool       // family
	Local    netip.Addr // where traffic leaves; invalid when this family has no way out
	Visible  netip.Addr // what receivers see; invalid when nobody could tell
	Ways     []way      // how Visible was found, those that say otherwise too
}

// way is one statement about the visible address.
type way struct {
	Name    string // "configured", "the interface", "mx.example.net said", …
	kind    wayKind
	Visible netip.Addr
	Err     error  // it could not tell
	witness string // who says so, where one may speak in several ways: a host in lower case
}

// label names a face for people and as a check's subject.
func (f face) label() string {
	switch {
	case f.Visible.IsValid():
		return f.Visible.String()
	case f.Local.IsValid():
		return f.Local.String()
	case f.V6:
		return "IPv6"
	}
	return "IPv4"
}

// faces are the sources of this examination, found out once.
func (x *exam) faces(ctx context.Context) []face {
	return x.visible.get(struct{}{}, func() []face { return x.findFaces(ctx) })
}
