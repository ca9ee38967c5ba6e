package config

import (
	"strings"
	"testing"
)

const linked = `[unsubscribe]
url = "https://news.example.com/u/"
address = "127.0.0.1:8026"
`

// TestUnsubscribe: streams take their fields from the file.
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	c := parsed(t, host+linked+`
[[stream]]
name = "news"
unsubscribe = true
list_unsubscribe = "<{url}>, <mailto:leave@example.com?subject={token}>"
feedback_id = "{tag}:{metadata:customer}:{stream}:widget"
`)
	u := c.Unsubscribe
	if u.URL != "https://news.example.com/u" || u.Host() != "news.example.com" || u.Address.String() != "127.0.0.1:8026" || u.Connections != 256 {
		t.Errorf("%+v", u)
	}
	if s := c.Streams[0]; !s.Unsubscribe || s.Places.String() != "<{url}>, <mailto:leave@example.com?subject={token}>" || s.Feedback.String() != "{tag}:{metadata:customer}:{stream}:widget" {
		t.Errorf("%+v", s)
	}
	if c := parsed(t, host); c.Unsubscribe.URL != "" || c.Unsubscribe.Address.IsValid() || c.Unsubscribe.Host() != "" {
		t.Errorf("%+v", c.Unsubscribe)
	}
}

// TestUnsubscribeIsWhole: links lead somewhere, and following one has an effect.
func TestUnsubscribeIsWhole(t *testing.T) {
	t.Parallel()
	const news = "[[stream]]\nname = \"news\"\nunsubscribe = true\n"
	for text, want := range map[string]string{
		news: "[[stream]] unsubscribe: needs links",
		"[unsubscribe]\nurl = \"https://a.example/u\"\n":                       "url: has nobody who serves it",
		"[unsubscribe]\naddress = \"127.0.0.1:8026\"\n":                        "address: has nothing to serve",
		"[unsubscribe]\nurl = \"http://a.example/u\"\n":                        "is not a URL of https",
		"[unsubscribe]\nurl = \"https://a.example/u?x=1\"\n":                   "more than a host and a path",
		"[unsubscribe]\nurl = \"https://me@a.example/u\"\n":                    "more than a host and a path",
		"[unsubscribe]\nurl = \"https://a.example/u#x\"\n":                     "more than a host and a path",
		"[unsubscribe]\nurl = \"https://a.example/ü\"\n":                       "a header field does not take",
		"[unsubscribe]\nurl = \"https://a.example/u>\"\n":                      "a header field does not take",
		linked + "key = \"/k\"\n":                                              "key: needs its certificate",
		linked + "cert = \"/c\"\n":                                             "cert: needs its private key",
		linked + "acme = true\n":                                               "acme: needs your agreement",
		linked + "acme = true\n[acme]\nagree = true\n":                         "gets no certificate for \"news.example.com\"",
		linked + "acme = true\ncert = \"/c\"\n[acme]\nagree = true\n":          "acme: stands beside cert",
		strings.Replace(linked, "127.0.0.1", "0.0.0.0", 1):                     "is not loopback and has no TLS",
		linked + "[[listen]]\naddress = \"127.0.0.1:8026\"\n":                  "is taken by the [[listen]] on line",
		linked + "[http]\naddress = \"127.0.0.1:8026\"\n":                      "is taken by [http]",
		linked + news + "suppress = [\"dead\"]\n":                              "suppress: leaves \"unsubscribed\" out",
		linked + "[[stream]]\nname = \"a\"\nlist_unsubscribe = \"<{url}>\"\n":  "stands without unsubscribe = true",
		linked + news + "list_unsubscribe = \"<mailto:a@b.example>\"\n":        "has to have <{url}> once",
		linked + news + "feedback_id = \"a:b:c:d:widget\"\n":                   "has 5 fields",
		linked + news + "feedback_id = 7\n":                                    "is not a text",
		strings.Replace(linked, "/u/", "/"+strings.Repeat("u", 150), 1) + news: "links too long for some addresses",
	} {
		if _, err := Parse("f", []byte(host+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		linked + "acme = true\n[acme]\nagree = true\nnames = [\"mx.example.com\", \"news.example.com\"]\n",
		strings.Replace(linked, "127.0.0.1", "0.0.0.0", 1) + "plain = true\n",
		linked + news + "suppress = [\"unsubscribed\"]\n",
		"[[stream]]\nname = \"a\"\nfeedback_id = \"widget\"\n",
	} {
		parsed(t, host+text)
	}
}
