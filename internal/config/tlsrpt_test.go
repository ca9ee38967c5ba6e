package config

import "testing"

func TestTLSReports(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]TLSReports{
		"":                                   {true, "postmaster@mailout.example.com", "postmaster@mailout.example.com", "mailout.example.com"},
		"postmaster = \"ops@Example.com\"\n": {true, "ops@Example.com", "ops@Example.com", "example.com"},
		"[tlsrpt]\nsend = false\nfrom = \"tls@example.com\"\norganization = \"Widget Ltd\"\n": {false, "tls@example.com", "tls@example.com", "Widget Ltd"},
		"[tlsrpt]\nfrom = \"tls@example.com\"\ncontact = \"ops@EXAMPLE.com\"\n":               {true, "tls@example.com", "ops@EXAMPLE.com", "example.com"},
	} {
		c, err := Parse("f", []byte("hostname = \"mailout.example.com\"\n"+text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if c.TLSReports != want {
			t.Errorf("%s gives %+v, want %+v", text, c.TLSReports, want)
		}
	}
}

func TestTLSReportsErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[tlsrpt]\nfrom = \"tls@example.com\"\ncontact = \"ops@example.net\"\n": `f:4:11: [tlsrpt] contact: is of another domain than from, "tls@example.com" (receivers take reports that name one sender only)`,
		"[tlsrpt]\ncontact = \"ops@example.net\"\n":                             `f:3:11: [tlsrpt] contact: is of another domain than from, "postmaster@mailout.example.com" (receivers take reports that name one sender only)`,
		"[tlsrpt]\nfrom = \"tls\"\n":                                            `f:3:8: [tlsrpt] from: "tls" is not a mailbox (write for example "postmaster@example.com")`,
		"[tlsrpt]\norganization = \" \"\n":                                      `f:3:16: [tlsrpt] organization: " " is not a name (1 to 100 octets that can be seen)`,
		"[tlsrpt]\norganization = \"a\\nb\"\n":                                  `f:3:16: [tlsrpt] organization: "a\nb" is not a name (1 to 100 octets that can be seen)`,
	} {
		_, err := Parse("f", []byte("hostname = \"mailout.example.com\"\n"+text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}
