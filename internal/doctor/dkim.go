package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	wire "github.com/miekg/dns"

	"mailout/internal/dkim"
)

const (
	whyKey       = "A signature lets receivers tell our mail from forged mail; without one, senders of many messages are refused: 550 5.7.26 at Gmail, 550 5.7.515 at Outlook. Keys below 1,024 bits count for nothing, and those below 2,048 for little (RFC 8301)."
	whyKeyRecord = "Receivers verify with the published key: where it is missing, damaged or another one, every signature fails (dkim=fail or dkim=permerror), which is worse than none; 550 5.7.26 at Gmail."
	whyVerifies  = "Key and record may each look right and still not fit; a receiver would only say dkim=fail."
	whyCovered   = "DMARC counts a signature only when its domain (d=) belongs to that of the From field: mail from other domains stays unauthenticated when it is forwarded; 550 5.7.26 at Gmail."
)

func dkimProbes() []probe {
	return []probe{
		{ids: []string{"dkim.key"}, offline: true, run: dkimKeys},
		{ids: []string{"dkim.record", "dkim.verifies"}, run: dkimRecords},
		{ids: []string{"dkim.alignment"}, run: dkimAlignment},
	}
}

// noKey is what the checks of DKIM say when no key is configured.
func (x *exam) noKey(id string) Check {
	return Check{ID: id, Subject: x.id.Hostname, Status: Skip, Seen: "no DKIM key is configured (dkim.key)"}
}

// dkimKeys looks at the key files, each once.
func dkimKeys(_ context.Context, x *exam) []Check {
	if len(x.id.DKIM) == 0 {
		c := Check{ID: "dkim.key", Subject: x.id.Hostname, Asked: "the configured keys", Why: whyKey}
		c.problem(Warn, You, "no DKIM key is configured, so nothing is signed here", Fix{
			Command: "mailout dkim new " + x.keyDomain(),
			Text:    "Make a key and publish its record: mail is signed as soon as every server of the zone has it. Nothing is to be done if mail is signed where it is made, or by the router."})
		return []Check{c}
	}
	var out []Check
	seen := map[string]bool{}
	for _, k := range x.id.DKIM {
		if !seen[k.Path] {
			seen[k.Path] = true
			out = append(out, judgeKey(k.Path))
		}
	}
	return out
}

// keyDomain is the domain that a first key would be for.
func (x *exam) keyDomain() string {
	if d := x.domains(); len(d) > 0 {
		return d[0]
	}
	return "DOMAIN"
}

func judgeKey(path string) Check {
	key, err := dkim.Load(path)
	info, statErr := os.Stat(path)
	if err == nil && statErr != nil {
		err = statErr
	}
	return judgeLoaded(path, key, info, err)
}

// judgeLoaded is about a key file as it was found.
func judgeLoaded(path string, key *dkim.Key, info fs.FileInfo, err error) Check {
	c := Check{ID: "dkim.key", Subject: path, Asked: "whether the file holds a private key that can be used", Why: whyKey}
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.problem(Unknown, You, err.Error(), Fix{Text: "Run this as the user of `mailout serve`, who must be able to read the file, or as root."})
	case errors.Is(err, fs.ErrNotExist):
		c.problem(Fail, You, "there is no such file", Fix{
			Text: "Put the private key there in PEM form, or correct the key of its [[dkim]]; where the key is lost, take its [[dkim]] out and make a new one (mailout dkim new DOMAIN)."})
	case err != nil:
		c.problem(Fail, You, err.Error(), Fix{Text: "Put an RSA or Ed25519 private key there, in PEM form and without a pass phrase."})
	case !key.Strong():
		c.problem(Fail, You, fmt.Sprintf("RSA of %d bits; at least %d are needed", key.Bits(), dkim.MinBits), Fix{
			Text: "Replace it by a longer one: mailout dkim rotate DOMAIN. It goes on signing until the new one's record is published."})
	case loose(info.Mode()):
		c.problem(Warn, You, fmt.Sprintf("%s; others on this machine may read or change the file (mode %04o)", described(key), info.Mode().Perm()), Fix{
			Command: "chmod o-rwx,g-wx " + path, Text: "Let only the user of `mailout serve` read the private key."})
	default:
		c.Status, c.Seen = Pass, described(key)
	}
	return c
}

// loose reports a file that others may read, or the group may change. Where
// permissions are not those of Unix (all bits set alike), nothing is said.
func loose(mode fs.FileMode) bool { return mode.Perm()&0o027 != 0 && os.PathSeparator == '/' }

func described(k *dkim.Key) string {
	if k.Algorithm() == dkim.Ed25519 {
		return "Ed25519"
	}
	return fmt.Sprintf("RSA of %d bits", k.Bits())
}

// publishedKey is what stands at a key's name in DNS.
type publishedKey struct {
	name   string
	answer answer
	key    *dkim.Key // nil: the file cannot be used
	want   string    // the record's text; empty without key
}

// revoked reports that the record withdraws the key.
func (p *publishedKey) revoked() bool {
	texts := p.answer.texts()
	if len(texts) != 1 {
		return false
	}
	r, err := dkim.ParseRecord(texts[0])
	return err == nil && r.Revoked()
}

func (x *exam) publishedKey(ctx context.Context, k DKIMKey) publishedKey {
	p := publishedKey{name: dkim.Name(k.Selector, k.Domain)}
	p.answer = x.look(ctx, p.name, wire.TypeTXT)
	if key, err := dkim.Load(k.Path); err == nil {
		p.key, p.want = key, key.TXT()
	}
	return p
}

func dkimRecords(ctx context.Context, x *exam) []Check {
	if len(x.id.DKIM) == 0 {
		return []Check{x.noKey("dkim.record"), x.noKey("dkim.verifies")}
	}
	return sideBySide(x.id.DKIM, func(k DKIMKey) []Check {
		p := x.publishedKey(ctx, k)
		record := Check{ID: "dkim.record", Subject: p.name, Asked: "TXT records of " + p.name, Why: whyKeyRecord}
		judgeKeyRecord(&record, p)
		verifies := Check{ID: "dkim.verifies", Subject: p.name, Why: whyVerifies,
			Asked: "whether a message signed with the key verifies with the record as it is published"}
		x.judgeVerifies(&verifies, k, p)
		for _, c := range []*Check{&record, &verifies} {
			if c.Status == Fail {
				x.ifReplaced(ctx, c, k, p)
			}
			if c.Status == Fail && c == &record {
				x.ifToCome(ctx, c, k, p)
			}
		}
		return []Check{record, verifies}
	})
}

// heir is the selector of a later key of the same domain and algorithm whose
// record is published: that one signs. Empty: none.
func (x *exam) heir(ctx context.Context, k DKIMKey, p publishedKey) string {
	i := slices.Index(x.id.DKIM, k)
	return x.published(ctx, x.id.DKIM[i+1:], k, p)
}

// elder is the same of the keys before: that one signs as long as the record of
// this one is not seen.
func (x *exam) elder(ctx context.Context, k DKIMKey, p publishedKey) string {
	before := slices.Clone(x.id.DKIM[:slices.Index(x.id.DKIM, k)])
	slices.Reverse(before)
	return x.published(ctx, before, k, p)
}

// published is the selector of the first key that could sign in the place of k.
func (x *exam) published(ctx context.Context, keys []DKIMKey, k DKIMKey, p publishedKey) string {
	for _, l := range keys {
		if p.key == nil || !strings.EqualFold(l.Domain, k.Domain) {
			continue
		}
		other := x.publishedKey(ctx, l)
		c := Check{}
		judgeKeyRecord(&c, other)
		if other.key != nil && other.key.Algorithm() == p.key.Algorithm() && (c.Status == Pass || c.Status == Warn) {
			return l.Selector
		}
	}
	return ""
}

// ifToCome makes a warning of a record that is not there yet while an older key
// signs: nothing is refused for it, and its turn comes.
func (x *exam) ifToCome(ctx context.Context, c *Check, k DKIMKey, p publishedKey) {
	if p.answer.err != nil || len(p.answer.texts()) > 0 {
		return
	}
	if elder := x.elder(ctx, k, p); elder != "" {
		c.problem(Warn, DNSHost, c.Seen+", and the older key with the selector "+elder+" signs until then", *c.Fix)
	}
}

// ifReplaced makes a warning of a failure that is about a key which does not sign
// any more: mail under way is still verified with its record, and nothing more
// hangs on it.
func (x *exam) ifReplaced(ctx context.Context, c *Check, k DKIMKey, p publishedKey) {
	heir := x.heir(ctx, k, p)
	if heir == "" {
		return
	}
	c.problem(Warn, You, c.Seen+"; the later key with the selector "+heir+" signs in its place", Fix{
		Text:    "The record of a key that was replaced stays for some days, for mail under way. When they are over, take the key out.",
		Command: "mailout dkim rotate " + k.Domain + " --finish"})
}

// fix is the record that should be there.
func (p publishedKey) fix(text string) Fix {
	if p.want == "" {
		return Fix{Text: "Mend the key first (dkim.key); its record follows from it."}
	}
	return Fix{Record: textRecord(p.name, p.want), Text: text}
}

func judgeKeyRecord(c *Check, p publishedKey) {
	texts := p.answer.texts()
	c.Seen = shortened(strings.Join(texts, " and "))
	switch {
	case p.answer.err != nil:
		c.Status, c.Seen = Unknown, p.answer.err.Error()
		return
	case len(texts) == 0:
		c.problem(Fail, DNSHost, p.answer.said()+"; the key does not sign before it is there", p.fix("Publish this record. Forms that ask for one text take the strings without quotation marks, joined."))
		return
	case len(texts) > 1:
		c.problem(Fail, DNSHost, fmt.Sprintf("%d records, and nobody knows which one counts: %s", len(texts), c.Seen), p.fix("Keep this record alone."))
		return
	}
	r, err := dkim.ParseRecord(texts[0])
	damage := ""
	if p.key != nil && (err != nil || !p.key.Matches(r)) {
		damage = dkim.Damage(texts[0], p.want)
	}
	switch {
	case err != nil && damage != "":
		c.problem(Fail, DNSHost, damage, p.fix("Replace the record by this one."))
	case err != nil:
		c.problem(Fail, DNSHost, err.Error()+": "+c.Seen, p.fix("Replace the record by this one."))
	case r.Revoked():
		c.problem(Fail, DNSHost, "the published key is revoked (p= is empty)", p.fix("Publish this record, or change [[dkim]] to a selector whose key is in use."))
	case r.Usable() != "":
		c.problem(Fail, DNSHost, r.Usable(), p.fix("Replace the record by this one."))
	case p.key == nil:
		c.Status, c.Seen = Unknown, "a key is published, but the private key cannot be read to compare (dkim.key)"
	case damage != "":
		c.problem(Fail, DNSHost, damage, p.fix("Replace the record by this one."))
	case !p.key.Matches(r):
		c.problem(Fail, DNSHost, "the published key is another one: "+c.Seen, p.fix("Replace the record by this one, or put the private key that belongs to it into the file."))
	case r.Testing():
		c.problem(Warn, DNSHost, "the record says t=y: receivers treat signatures as if they were not there", p.fix("Replace the record by this one, without t=y."))
	case r.Spaced:
		c.problem(Warn, DNSHost, "there is white space inside the key: the lines were wrapped; some receivers stumble over it", p.fix("Replace the record by this one."))
	default:
		c.Status, c.Seen = Pass, "the published key is ours ("+described(p.key)+")"
	}
}

func (x *exam) judgeVerifies(c *Check, k DKIMKey, p publishedKey) {
	texts := p.answer.texts()
	switch {
	case p.key == nil:
		c.Status, c.Seen = Skip, "there is no key to sign with (dkim.key)"
	case p.answer.err != nil:
		c.Status, c.Seen = Unknown, p.answer.err.Error()
	case len(texts) == 0:
		c.Status, c.Seen = Skip, "there is no record to verify with (dkim.record)"
	case len(texts) > 1:
		c.problem(Fail, DNSHost, fmt.Sprintf("%d records to verify with", len(texts)), p.fix("Publish this record, alone."))
	default:
		if err := verifySample(x.world.Now(), k, p.key, texts[0]); err != nil {
			c.problem(Fail, DNSHost, err.Error(), p.fix("Replace the record by this one."))
			return
		}
		c.Status, c.Seen = Pass, "it verifies"
	}
}

// verifySample signs a message as the key's domain and verifies it with the
// text of the record.
func verifySample(now time.Time, k DKIMKey, key *dkim.Key, record string) error {
	message := "From: postmaster@" + k.Domain + "\r\n" +
		"To: postmaster@" + k.Domain + "\r\n" +
		"Subject: a sample,\r\n\tnever sent\r\n" +
		"Date: " + now.UTC().Format(time.RFC1123Z) + "\r\n" +
		"Message-ID: <sample@" + k.Domain + ">\r\n\r\n" +
		"This message is signed to see whether the published key fits.  \r\n\r\nIt is not sent.\r\n\r\n"
	signature, err := dkim.Sign(nil, dkim.Octets(message), []dkim.SigningKey{{Domain: k.Domain, Selector: k.Selector, Key: key}}, time.Time{})
	if err != nil {
		return fmt.Errorf("the sample could not be signed: %w", err)
	}
	return verified(string(signature)+message, record)
}

// verified judges the one signature of a message as a receiver does who finds
// this record.
func verified(message, record string) error {
	lookUp := func(string) ([]string, error) { return []string{record}, nil }
	found, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: lookUp})
	if err != nil {
		return fmt.Errorf("the sample could not be verified: %w", err)
	}
	if len(found) != 1 {
		return fmt.Errorf("the sample has %d signatures", len(found))
	}
	return found[0].Err
}

// dkimAlignment asks whether every sender domain has a key whose domain counts
// for it.
func dkimAlignment(ctx context.Context, x *exam) []Check {
	if len(x.id.DKIM) == 0 {
		return []Check{x.noKey("dkim.alignment")}
	}
	return sideBySide(x.domains(), func(domain string) []Check {
		c := Check{ID: "dkim.alignment", Subject: domain, Asked: "which configured key counts for From addresses in " + domain, Why: whyCovered}
		x.judgeCovered(ctx, &c, domain)
		return []Check{c}
	})
}

func (x *exam) judgeCovered(ctx context.Context, c *Check, domain string) {
	exact, related, err := x.keysFor(ctx, domain)
	policy := x.policy(ctx, domain)
	strict := policy.record != nil && policy.record.StrictDKIM
	fix := Fix{Text: fmt.Sprintf("Add a [[dkim]] with domain = %q (mailout dkim new), and publish its record; until then, sign where the mail is made.", domain)}
	switch {
	case len(exact) > 0:
		c.Status, c.Seen = Pass, "d="+domain
	case err != nil:
		c.Status, c.Seen = Unknown, err.Error()
	case len(related) > 0 && strict:
		c.problem(Fail, You, fmt.Sprintf("d=%s, but the DMARC record demands d=%s itself (adkim=s)", related[0], domain), fix)
	case len(related) > 0:
		c.Status, c.Seen = Pass, fmt.Sprintf("d=%s, of the same organization", related[0])
	default:
		c.problem(Warn, You, "no key is for this domain", fix)
	}
}

// keysFor gives the domains of keys that sign mail from a domain and count for
// it: the same one, and those above it of the same organization (RFC 9989 4.4.1).
func (x *exam) keysFor(ctx context.Context, domain string) (exact, related []string, err error) {
	for _, k := range x.id.DKIM {
		d := strings.ToLower(strings.TrimSuffix(k.Domain, "."))
		if d == domain {
			exact = append(exact, d)
			continue
		}
		if !strings.HasSuffix(domain, "."+d) {
			continue
		}
		ours, e1 := x.organization(ctx, domain)
		theirs, e2 := x.organization(ctx, d)
		if e := errors.Join(e1, e2); e != nil {
			err = e
			continue
		}
		if ours == theirs && !slices.Contains(related, d) {
			related = append(related, d)
		}
	}
	return exact, related, err
}
