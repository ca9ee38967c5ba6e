package dropin

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailout/internal/header"
	"mailout/internal/submit/httpapi"
)

// The bounds of substitutions, and of what each personalization has a copy of.
const (
	maxSubstitutions = 10_000   // octets of one personalization, as the provider documents
	maxReplyTo       = 100      // addresses
	maxTags          = 100      // of one personalization
	maxExpanded      = 64 << 20 // octets of all texts when the substitutions are in them
	maxSearched      = 8 << 30  // octets of text, each counted for each tag that is looked for
)

// hold takes the memory of the texts in which substitutions are made: a few
// octets of a request may ask for a lot.
func (s *sendgridMail) hold(q *request) (release func(), err error) {
	texts := s.texts()
	var length int64
	for _, text := range texts {
		length += int64(len(text))
	}
	var expanded, searched int64
	for i := range s.Personalizations {
		p := &s.Personalizations[i]
		if len(p.Substitutions) == 0 {
			continue
		}
		if searched += length * int64(len(p.Substitutions)); len(p.Substitutions) > maxTags || searched > maxSearched {
			return func() {}, invalid(fmt.Sprintf("personalizations[%d].substitutions", i), "these are too many: at most %d are taken, and fewer for long texts; make several requests", maxTags)
		}
		if expanded += length + p.growth(texts); expanded > maxExpanded {
			return func() {}, invalid(fmt.Sprintf("personalizations[%d].substitutions", i), "the texts of one request may have %d octets with the substitutions in them; make several requests", maxExpanded)
		}
	}
	const free = 1 << 20
	if expanded <= free {
		return func() {}, nil
	}
	release, err = q.door.opts.Sender.Hold(q.r.Context(), expanded)
	if err != nil {
		return func() {}, err
	}
	return release, nil
}

// texts are those in which substitutions are made.
func (s *sendgridMail) texts() []string {
	out := []string{s.Subject}
	for _, c := range s.Content {
		out = append(out, c.Value)
	}
	for _, a := range s.ReplyToList {
		out = append(out, a.Name, a.Email)
	}
	if s.ReplyTo != nil {
		out = append(out, s.ReplyTo.Name, s.ReplyTo.Email)
	}
	return out
}

// growth is at least how much longer the texts become. The subject may be the
// personalization's own.
func (p *sendgridPersonalization) growth(texts []string) (n int64) {
	for tag, raw := range p.Substitutions {
		more := int64(len(raw) - len(tag)) // raw has quotes and escapes besides
		if more <= 0 || tag == "" {
			continue
		}
		n += more * int64(strings.Count(p.Subject, tag))
		for _, text := range texts {
			n += more * int64(strings.Count(text, tag))
		}
	}
	return n
}

// substitute replaces texts in subject, content and reply_to, the longer first
// where several fit. What was put in is not looked through again.
func (p *sendgridPersonalization) substitute(m *httpapi.Message, at string) error {
	if len(p.Substitutions) == 0 {
		return nil
	}
	tags := slices.SortedFunc(maps.Keys(p.Substitutions), func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	size := 0
	for _, tag := range tags {
		value, ok := scalar(p.Substitutions[tag])
		if !ok || tag == "" {
			return invalid(at+".substitutions", "%s is neither text nor a number, or has no name", tag)
		}
		if size += len(tag) + len(value); size > maxSubstitutions {
			return invalid(at+".substitutions", "they have over %d octets", maxSubstitutions)
		}
		if strings.Contains(m.Subject, tag) && header.Check("Subject", value) != nil {
			return invalid(at+".substitutions", "%s stands in the subject, where no control character may be", tag)
		}
		pairs = append(pairs, tag, value)
	}
	r := strings.NewReplacer(pairs...)
	m.Subject, m.Text, m.HTML = r.Replace(m.Subject), r.Replace(m.Text), r.Replace(m.HTML)
	m.ReplyTo = slices.Clone(m.ReplyTo)
	for i := range m.ReplyTo {
		m.ReplyTo[i] = httpapi.Address{Name: r.Replace(m.ReplyTo[i].Name), Address: r.Replace(m.ReplyTo[i].Address)}
	}
	return nil
}
