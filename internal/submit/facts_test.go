package submit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestFacts: what the application says beside the content comes with the
// message, its first attempt and its records, and no further than its bounds.
func TestFacts(t *testing.T) {
	t.Parallel()
	r := request("a@example.net", "b@example.org")
	r.Tags, r.Metadata = []string{"welcome", "größe 2"}, map[string]string{"order": "17"}
	r.NotBefore, r.Expires = noon.Add(time.Hour), noon.Add(2*time.Hour)
	sub, _, err := newWorld().submit(t, r, full, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := sub.Message
	if !slices.Equal(m.Tags, r.Tags) || !maps.Equal(m.Metadata, r.Metadata) {
		t.Errorf("%v %v", m.Tags, m.Metadata)
	}
	if at := mta.FormatTime(m.NotBefore); at != "2026-03-04T12:00:00.124Z" || m.NotBefore.Location() != time.UTC || mta.FormatTime(m.Expires) != "2026-03-04T13:00:00.124Z" {
		t.Errorf("%v %v", m.NotBefore, m.Expires)
	}
	for _, d := range sub.Deliveries {
		if !d.Due.Equal(m.NotBefore) {
			t.Errorf("due %v", d.Due)
		}
	}
	for _, rec := range sub.Records {
		if !slices.Equal(rec.Tags, r.Tags) || !maps.Equal(rec.Metadata, r.Metadata) || !rec.Next.Equal(m.NotBefore) {
			t.Errorf("%+v", rec)
		}
	}
	r = request()
	r.NotBefore = noon.Add(-time.Hour) // is past: at once
	if sub, _, err = newWorld().submit(t, r, full, 0); err != nil || !sub.Message.NotBefore.IsZero() || !sub.Deliveries[0].Due.Equal(sub.Message.Arrived) {
		t.Errorf("%+v %v", sub.Message, err)
	}
}

// TestFactsAreBounded: each bound is met exactly, and passed by one.
func TestFactsAreBounded(t *testing.T) {
	t.Parallel()
	tags := func(n, size int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("%02d", i)+strings.Repeat("x", size-2))
		}
		return list
	}
	pairs := func(n, key, value int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[fmt.Sprintf("%02d", i)+strings.Repeat("k", key-2)] = strings.Repeat("v", value)
		}
		return m
	}
	for name, c := range map[string]struct {
		change func(r *Request)
		field  string
	}{
		"most tags":             {func(r *Request) { r.Tags = tags(16, 64) }, ""},
		"too many tags":         {func(r *Request) { r.Tags = tags(17, 8) }, "tags"},
		"a tag too long":        {func(r *Request) { r.Tags = tags(1, 65) }, "tags"},
		"an empty tag":          {func(r *Request) { r.Tags = []string{"a", ""} }, "tags"},
		"a tag twice":           {func(r *Request) { r.Tags = []string{"a", "b", "a"} }, "tags"},
		"a line end in a tag":   {func(r *Request) { r.Tags = []string{"a\nb"} }, "tags"},
		"a tag not in UTF-8":    {func(r *Request) { r.Tags = []string{"a\xff"} }, "tags"},
		"a direction in a tag":  {func(r *Request) { r.Tags = []string{"a\u202eb"} }, "tags"},
		"most metadata":         {func(r *Request) { r.Metadata = pairs(32, 64, 64) }, ""},
		"too many pairs":        {func(r *Request) { r.Metadata = pairs(33, 2, 2) }, "metadata"},
		"too large":             {func(r *Request) { r.Metadata = pairs(1, 64, 4096-63) }, "metadata"},
		"as large as may be":    {func(r *Request) { r.Metadata = pairs(1, 64, 4096-64) }, ""},
		"a key too long":        {func(r *Request) { r.Metadata = pairs(1, 65, 0) }, "metadata"},
		"an empty key":          {func(r *Request) { r.Metadata = map[string]string{"": "x"} }, "metadata"},
		"NUL in a key":          {func(r *Request) { r.Metadata = map[string]string{"a\x00": "x"} }, "metadata"},
		"a line end in a value": {func(r *Request) { r.Metadata = map[string]string{"a": "x\r\nBcc: y"} }, "metadata"},
		"an empty value":        {func(r *Request) { r.Metadata = map[string]string{"a": ""} }, ""},
		"as late as may be":     {func(r *Request) { r.NotBefore = noon.Truncate(time.Millisecond).Add(30 * 24 * time.Hour) }, ""},
		"too late":              {func(r *Request) { r.NotBefore = noon.Add(30*24*time.Hour + time.Second) }, "send_at"},
		"in a thousand years":   {func(r *Request) { r.NotBefore = noon.AddDate(1000, 0, 0) }, "send_at"},
		"expired":               {func(r *Request) { r.Expires = noon.Add(-time.Second) }, "expire"},
		"expires before it goes": {func(r *Request) {
			r.NotBefore, r.Expires = noon.Add(time.Hour), noon.Add(time.Hour)
		}, "expire"},
		"expires far away": {func(r *Request) { r.Expires = noon.AddDate(1, 0, 0) }, ""},
	} {
		r := request()
		c.change(r)
		_, _, err := newWorld().submit(t, r, full, 0)
		var refused *Refusal
		if c.field == "" && err != nil || c.field != "" && (!errors.As(err, &refused) || refused.Field != c.field || refused.Reply.Code/100 != 5 || !mta.Printable(refused.Reply.Text)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoFactsCostNothing: mail without them allocates nothing for them.
func TestNoFactsCostNothing(t *testing.T) {
	r := request()
	if n := testing.AllocsPerRun(100, func() {
		if checkFacts(r, noon) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTagsOfTheHeader: SMTP has no other place for tags. They follow those of the
// request, keep to the same bounds, and their field does not go out.
func TestTagsOfTheHeader(t *testing.T) {
	t.Parallel()
	r := request("a@example.net")
	r.Tags = []string{"first"}
	const text = "From: a@example.com\r\nx-mailout-TAG: urgent , first,,two\r\n  words\r\nSubject: x\r\nX-Mailout-Tag: urgent\r\nX-Mailout-Tags: other\r\n\r\nbody\r\n"
	sub, content, err := newWorld().submit(t, r, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first", "urgent", "two words"}
	if !slices.Equal(sub.Message.Tags, want) || !slices.Equal(sub.Records[0].Tags, want) || !slices.Equal(r.Tags, want[:1]) {
		t.Errorf("%q, in the record %q, of the request %q", sub.Message.Tags, sub.Records[0].Tags, r.Tags)
	}
	if strings.Contains(strings.ToLower(string(content)), "x-mailout-tag:") || !strings.Contains(string(content), "X-Mailout-Tags: other\r\n") {
		t.Errorf("%s", content)
	}
	for field, fine := range map[string]bool{
		strings.Repeat("x", mta.MaxTag):       true,
		strings.Repeat("x", mta.MaxTag+1):     false,
		"a\x07b":                              false,
		"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o":       true, // and "first"
		"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p":     false,
		"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,first": true,
		"":                                    true,
	} {
		_, _, err := newWorld().submit(t, r, "X-Mailout-Tag: "+field+"\r\n\r\n", 0)
		var refusal *Refusal
		if fine != (err == nil) || !fine && (!errors.As(err, &refusal) || refusal.Reply.Code != 554) {
			t.Errorf("%q: %v", field, err)
		}
	}
}
