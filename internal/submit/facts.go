package submit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// checkFacts holds what an application says beside the content to its bounds.
// What it refuses is the request's fault for good.
func checkFacts(r *Request, now time.Time) error {
	if len(r.Tags) > 0 {
		if err := checkTags(r.Tags); err != nil {
			return err
		}
	}
	if len(r.Metadata) > 0 {
		if err := checkMetadata(r.Metadata); err != nil {
			return err
		}
	}
	if r.NotBefore.IsZero() && r.Expires.IsZero() {
		return nil
	}
	return checkTimes(r, now)
}

func checkTags(tags []string) error {
	if len(tags) > mta.MaxTags {
		return badFact("tags", fmt.Sprintf("more than %d tags", mta.MaxTags))
	}
	for i, t := range tags {
		if t == "" || len(t) > mta.MaxTag || !mta.Printable(t) {
			return badFact("tags", fmt.Sprintf("tag %d is not 1 to %d printable octets", i+1, mta.MaxTag))
		}
		if slices.Contains(tags[:i], t) {
			return badFact("tags", fmt.Sprintf("tag %d is there twice", i+1))
		}
	}
	return nil
}

func checkMetadata(pairs map[string]string) error {
	if len(pairs) > mta.MaxMetadata {
		return badFact("metadata", fmt.Sprintf("more than %d pairs of metadata", mta.MaxMetadata))
	}
	size := 0
	for k, v := range pairs {
		size += len(k) + len(v)
		if k == "" || len(k) > mta.MaxMetadataKey || !mta.Printable(k) {
			return badFact("metadata", fmt.Sprintf("a key of the metadata is not 1 to %d printable octets", mta.MaxMetadataKey))
		}
		if !mta.Printable(v) {
			return badFact("metadata", "the metadata's value of "+k+" is not printable")
		}
	}
	if size > mta.MaxMetadataBytes {
		return badFact("metadata", fmt.Sprintf("the metadata is larger than %d octets", mta.MaxMetadataBytes))
	}
	return nil
}

func checkTimes(r *Request, now time.Time) error {
	if r.NotBefore.Sub(now) > mta.MaxNotBefore {
		return badFact("send_at", fmt.Sprintf("the time to send is more than %d days ahead", int(mta.MaxNotBefore.Hours()/24)))
	}
	if r.Expires.IsZero() {
		return nil
	}
	if !r.Expires.After(now) {
		return badFact("expire", "the message has expired already")
	}
	if !r.Expires.After(r.NotBefore) {
		return badFact("expire", "the message expires before it may be sent")
	}
	return nil
}

func badFact(field, text string) *Refusal {
	return refuse(554, mta.Enhanced{Class: 5, Subject: 6}, field, text)
}

// stamp is a time as it is stored: UTC, to the millisecond, and never before t.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	at := time.UnixMilli(t.UnixMilli()).UTC()
	if at.Before(t) {
		at = at.Add(time.Millisecond)
	}
	return at
}

// facts gives the message what the request says beside the content.
func (d *draft) facts(m *mta.Message) {
	r := d.request
	m.Tags, m.Metadata = d.allTags(), r.Metadata
	if r.NotBefore.After(m.Arrived) {
		m.NotBefore = stamp(r.NotBefore)
	}
	if !r.Expires.IsZero() {
		m.Expires = stamp(r.Expires)
	}
}

// tag takes in a field X-Mailout-Tag: tags with commas between them, for
// applications that have no other way to give them (SMTP). The field is for us
// and does not go out.
func (d *draft) tag(f header.Field) error {
	for text := range strings.SplitSeq(f.Text(), ",") {
		t := strings.Join(strings.Fields(text), " ")
		switch {
		case t == "" || slices.Contains(d.tags, t) || slices.Contains(d.request.Tags, t):
			continue
		case len(d.tags)+len(d.request.Tags) == mta.MaxTags:
			return badFact("content", fmt.Sprintf("%s: more than %d tags", header.MailoutTag, mta.MaxTags))
		case len(t) > mta.MaxTag || !mta.Printable(t):
			return badFact("content", fmt.Sprintf("%s: a tag is not 1 to %d printable octets", header.MailoutTag, mta.MaxTag))
		}
		d.tags = append(d.tags, t)
	}
	return nil
}

// allTags are those of the request, and behind them those of the header.
func (d *draft) allTags() []string {
	if len(d.tags) == 0 {
		return d.request.Tags
	}
	return slices.Concat(d.request.Tags, d.tags)
}
