package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailout/internal/dns"
)

// TestTrustAnchors: the file is read when the configuration is; one that nothing
// could be checked from is refused there, not found out on the road.
func TestTrustAnchors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mailout.toml")
	write(t, path, host+"[dns]\ntrust_anchors = \"anchors\"\ndnssec = \"validate\"\n")
	for text, want := range map[string]string{
		". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n": "",
		"; nothing\n":           "there is no DS or DNSKEY record",
		". IN A 192.0.2.1\n":    "A records are no trust anchors",
		"<xml>not a zone</xml>": "trust anchors: ",
	} {
		write(t, filepath.Join(dir, "anchors"), text)
		c, err := Load(path)
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want == "":
			if c.DNS.Anchors != filepath.Join(dir, "anchors") || c.DNS.DNSSEC != dns.DNSSECValidate {
				t.Errorf("%+v", c.DNS)
			}
		case err == nil || !strings.Contains(err.Error(), ":3:17: [dns] trust_anchors: ") || !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestServerWords: the example fits what was meant.
func TestServerWords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mailout.toml")
	for server, want := range map[string]string{
		"ns.example":                  `(write for example "192.0.2.1" or "192.0.2.1:5353")`,
		"tls://dns.example":           `or for TLS "tls://192.0.2.1" or "tls://192.0.2.1#dns.example")`,
		"tls://192.0.2.1#":            `or for TLS "tls://192.0.2.1" or "tls://192.0.2.1#dns.example")`,
		"192.0.2.1#dns.example":       `or for TLS "tls://192.0.2.1" or "tls://192.0.2.1#dns.example")`,
		"https://192.0.2.1/dns-query": `or for TLS "tls://192.0.2.1" or "tls://192.0.2.1#dns.example")`,
	} {
		write(t, path, host+"[dns]\nservers = [\""+server+"\"]\n")
		if _, err := Load(path); err == nil || !strings.HasSuffix(err.Error(), want) || !strings.Contains(err.Error(), ":3:12: [dns] servers: ") {
			t.Errorf("%s: %v", server, err)
		}
	}
}

// TestPrivateZones: domains and single labels, in one form.
func TestPrivateZones(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mailout.toml")
	write(t, path, host+"[dns]\nprivate = [\"Corp.Example.com.\", \"office\", \"büro.example\"]\n")
	c, err := Load(path)
	if err != nil || !slices.Equal(c.DNS.Private, []string{"corp.example.com", "office", "xn--bro-hoa.example"}) {
		t.Errorf("%v %v", c.DNS.Private, err)
	}
	for _, zone := range []string{"", ".", "*.corp.example", "a b", "*", "a..b"} {
		write(t, path, host+"[dns]\nprivate = [\""+zone+"\"]\n")
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), ":3:12: [dns] private: ") {
			t.Errorf("%q: %v", zone, err)
		}
	}
}
