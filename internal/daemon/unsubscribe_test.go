package daemon

import (
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/config"
	"mailout/internal/dkim"
	"mailout/internal/mta"
	"mailout/internal/transport"
	"mailout/internal/unsubscribe"
)

// TestLinksOfTheConfiguration: streams get the fields that the file says; a header
// that cannot be read is our own trouble, and nothing goes out without its link.
func TestLinksOfTheConfiguration(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte("hostname = \"mailout.example.com\"\n[unsubscribe]\nurl = \"https://news.example.com/u\"\naddress = \"127.0.0.1:8026\"\n"+
		"[[stream]]\nname = \"news\"\nunsubscribe = true\nlist_unsubscribe = \"<{url}>, <mailto:x@example.com>\"\n[[stream]]\nname = \"loop\"\nfeedback_id = \"{stream}:widget\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	var l links
	if l.desk, err = unsubscribe.New(unsubscribe.Options{Keys: filepath.Join(t.TempDir(), "keys"), Settings: linkSettings(c)}); err != nil {
		t.Fatal(err)
	}
	o := outgoing("From: a@widget.com\r\n\r\nhi\r\n")
	for stream, want := range map[string][2]string{
		"news": {"List-Unsubscribe: <https://news.example.com/u/AQ", ">,\r\n <mailto:x@example.com>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"},
		"loop": {"Feedback-ID: loop:widget\r\n", ""}, "default": {"", ""},
	} {
		o.Delivery.Message.Stream = stream
		got, f := l.fields(o)
		if f != nil || !strings.HasPrefix(string(got), want[0]) || !strings.HasSuffix(string(got), want[1]) || (len(got) == 0) != (want[0] == "") {
			t.Errorf("%s: %q, %v", stream, got, f)
		}
		if l.apart(o.Delivery) != (stream == "news") {
			t.Errorf("%s: apart %v", stream, l.apart(o.Delivery))
		}
	}
	o.Delivery.Message.Stream, o.Content = "news", goneDisk{o.Content.(dkim.Octets)}
	got, f := l.fields(o)
	if f == nil || got != nil {
		t.Fatalf("%q", got)
	}
	if r := transport.Judge(f, transport.Place{}); r.Class != mta.ClassTemporary || r.Scope != mta.ScopeLocal || !strings.Contains(r.Reason, "the message's header cannot be read: the disk is gone") {
		t.Errorf("%+v", r)
	}
}
