package shape

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestProviderOfHosts(t *testing.T) {
	t.Parallel()
	for hosts, want := range map[string]string{
		"gmail-smtp-in.l.google.com alt1.gmail-smtp-in.l.google.com": "google",
		"ASPMX.L.GOOGLE.COM.":                      "google",
		"smtp.google.com":                          "google",
		"outlook-com.olc.protection.outlook.com":   "microsoft",
		"widget-com.mail.protection.outlook.com":   "microsoft365",
		"widget-com.a-v1.mx.microsoft":             "microsoft365",
		"mta5.am0.yahoodns.net":                    "yahoo",
		"mx01.mail.icloud.com":                     "apple",
		"mx00.gmx.net mx01.gmx.net":                "gmx",
		"mx-ha02.web.de":                           "gmx",
		"mx00.t-online.de":                         "telekom",
		"smtp-in.orange.fr":                        "orange",
		"mx1.free.fr":                              "free",
		"smtpz4.laposte.net":                       "laposte",
		"mxs.mail.ru":                              "mailru",
		"mx.yandex.ru":                             "yandex",
		"mail.protonmail.ch mailsec.protonmail.ch": "proton",
		"mx.zoho.eu":                               "zoho",
		"mx1.mxge.comcast.net":                     "comcast",
		"mx.example.com aspmx.l.google.com":        "", // a filter in front decides
		"google.com":                               "", // not under itself
		"notgoogle.com":                            "",
		"mx.google.com.example.net":                "",
		"":                                         "",
		"localhost":                                "",
		"192.0.2.1":                                "",
	} {
		if got := Provider(strings.Fields(hosts)); got != want {
			t.Errorf("%q: %q, want %q", hosts, got, want)
		}
	}
}

// The list, each with numbers and each number with its source.
func TestShippedDefaultsHaveSources(t *testing.T) {
	t.Parallel()
	if !strings.HasPrefix(ProviderVersion(), "20") {
		t.Errorf("version %q", ProviderVersion())
	}
	for _, name := range []string{"google", "microsoft", "microsoft365", "yahoo", "apple", "gmx", "orange", "free", "telekom"} {
		p, ok := Defaults(name)
		if !ok || p.Title == "" || len(p.MX) == 0 || p.Limits.Connections < 1 || p.Limits.MessagesPerConnection < 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, p := range Providers() {
		for key, source := range p.Sources {
			if !strings.Contains(source, "http") && !strings.HasPrefix(source, "no published limit") {
				t.Errorf("%s of %s: %q is neither a document nor says that there is none", key, p.Name, source)
			}
		}
	}
	if p, _ := Defaults("orange"); p.Limits.Connections != 2 {
		t.Errorf("orange: %d connections", p.Limits.Connections)
	}
	if _, ok := Defaults("nobody"); ok {
		t.Error("nobody is known")
	}
}

func TestProvidersAreRefusedWhenWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                 "no version",
		"version\t1\na\tmx":                "2 fields",
		"version\t1\na\tconnections\t3":    "no source",
		"version\t1\na\tconnections\t0\tx": "no number",
		"version\t1\na\tspeed\t1\tx":       "no key",
		"version\t1\na\tmx\t*.x.de\nb\tmx\t*.x.de": "a's already",
		"version\t1\na\tmx\t*x.de":                 "no pattern",
	} {
		if _, err := readProviders(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestDocsNameTheProviders: docs/shaping.md has the table as it is shipped
// (-rewrite writes it).
func TestDocsNameTheProviders(t *testing.T) {
	const page = "../../docs/shaping.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), "<!-- providers -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end -->\n")
	if !ok || !ok2 {
		t.Fatal("the marks are gone")
	}
	want := before + "<!-- providers -->\n" + providersPage() + "<!-- end -->\n" + after
	if *rewrite {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(data) {
		t.Error("the table is not the shipped one (go test ./internal/shape -run TestDocs -rewrite)")
	}
}

func providersPage() string {
	var b strings.Builder
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	fmt.Fprintf(&b, "\nVersion %s:\n\n| name | who | connections | messages a connection | recipients a message | published |\n| --- | --- | --- | --- | --- | --- |\n", ProviderVersion())
	for _, p := range Providers() {
		published := map[string]bool{}
		var list []string
		for _, key := range []string{"connections", "messages_per_connection", "recipients_per_message"} {
			source := p.Sources[key]
			if at := strings.Index(source, "http"); at >= 0 && !strings.HasPrefix(source, "no published") && !published[source] {
				published[source] = true
				text := strings.TrimRight(strings.TrimSpace(source[:at]), ".")
				if text == "" {
					text = strings.ReplaceAll(key, "_", " ")
				}
				list = append(list, fmt.Sprintf("[%s](%s)", text, source[at:]))
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", p.Name, p.Title, number(p.Limits.Connections), number(p.Limits.MessagesPerConnection), number(p.Limits.RecipientsPerMessage), strings.Join(list, "; "))
	}
	return b.String() + "\n"
}
