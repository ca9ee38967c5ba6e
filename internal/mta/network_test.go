package mta

import (
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Network{
		"192.0.2.1": GlobalNetwork, "2001:db8::1": GlobalNetwork, "2002:c000:201::1": GlobalNetwork, "64:ff9b::c000:201": GlobalNetwork,
		"127.0.0.1": LoopbackNetwork, "127.255.255.255": LoopbackNetwork, "::1": LoopbackNetwork, "::ffff:127.0.0.1": LoopbackNetwork,
		"169.254.1.1": LinkLocalNetwork, "fe80::1": LinkLocalNetwork, "fe80::1%eth0": LinkLocalNetwork,
		"10.0.0.1": PrivateNetwork, "172.31.255.255": PrivateNetwork, "192.168.0.1": PrivateNetwork, "fd00::1": PrivateNetwork, "fec0::1": PrivateNetwork,
		"172.32.0.1": GlobalNetwork, "100.64.0.1": SharedNetwork, "100.127.255.255": SharedNetwork, "100.128.0.1": GlobalNetwork,
		"192.0.0.8": ProtocolNetwork, "64:ff9b:1::1": ProtocolNetwork,
		"224.0.0.1": MulticastNetwork, "ff02::1": MulticastNetwork,
		"0.0.0.0": UnspecifiedNetwork, "0.1.2.3": UnspecifiedNetwork, "::": UnspecifiedNetwork, "::ffff:0.0.0.0": UnspecifiedNetwork,
		"240.0.0.1": ReservedNetwork, "255.255.255.255": ReservedNetwork, "100::1": ReservedNetwork, "::192.0.2.1": ReservedNetwork,
	} {
		if got := NetworkOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
	if n := NetworkOf(netip.Addr{}); n != NoNetwork || !n.Impossible() || n.Global() {
		t.Errorf("the zero address is %v", n)
	}
	for n := range Network(len(networkWords)) {
		if n.String() == "" || n.Global() != (n == 0) || n.Impossible() != (n > ProtocolNetwork) {
			t.Errorf("%d: %q, global %t, impossible %t", n, n, n.Global(), n.Impossible())
		}
	}
}
