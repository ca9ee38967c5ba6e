package doctor

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// TestSystemWorldDialsFrom: the source address is the one asked for.
func TestSystemWorldDialsFrom(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	source := netip.MustParseAddr("127.0.0.1")
	for _, from := range []netip.Addr{source, {}} {
		conn, err := SystemWorld(nil).Dial(t.Context(), from, "tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != source {
			t.Error(got)
		}
		conn.Close()
	}
	if conn, err := SystemWorld(nil).Dial(t.Context(), netip.MustParseAddr("192.0.2.1"), "tcp4", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("connected from an address that this machine does not have")
	}
}

func TestSystemWorldAddresses(t *testing.T) {
	t.Parallel()
	all, err := SystemWorld(nil).Addresses()
	if err != nil || !slices.Contains(all, netip.MustParseAddr("127.0.0.1")) {
		t.Error(all, err)
	}
}

// TestSystemWorldOutgoing: an address of an interface, or none at all.
func TestSystemWorldOutgoing(t *testing.T) {
	t.Parallel()
	w := SystemWorld(nil)
	all, err := w.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		a, err := w.Outgoing(t.Context(), v6)
		if err != nil {
			t.Log("no way out:", err)
			continue
		}
		if a.Is6() != v6 || !slices.Contains(all, a) {
			t.Errorf("%s is not among %s", a, all)
		}
	}
}
