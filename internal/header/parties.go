package header

import (
	"errors"
	"fmt"
	"strings"
)

// resending goes through the fields that belong to the newest resending of a
// message (RFC 5322 3.6.6): its fields stand first, and end where one of them
// comes again or where a trace field shows that the rest is older.
type resending struct {
	seen map[string]bool
	over bool
}

// bare tells of a field whether it is one of a resending, its name without the
// prefix in lower case, and whether it belongs to the newest.
func (r *resending) bare(f Field) (name string, resent, newest bool) {
	full := strings.ToLower(f.Name())
	name, resent = strings.CutPrefix(full, "resent-")
	switch {
	case resent:
		r.over = r.over || r.seen[full]
		r.seen[full] = true
	case full == "received" || full == "return-path":
		r.over = r.over || len(r.seen) > 0
	}
	return name, resent, resent && !r.over
}

// Recipients gives the values, unfolded, of the fields that name a message's
// recipients: To, Cc and Bcc, or in a message that is resent those of the
// newest resending instead. Each value passes Mailboxes; one that does not is
// an error that names its field.
func (h *Header) Recipients() ([]string, error) {
	var plain, resent []string
	r := resending{seen: map[string]bool{}}
	for f := range h.All() {
		name, isResent, newest := r.bare(f)
		if name != "to" && name != "cc" && name != "bcc" {
			continue
		}
		if _, err := Mailboxes(f.Text()); err != nil {
			return nil, fmt.Errorf("the field %s: %w", f.Name(), err)
		}
		switch {
		case !isResent:
			plain = append(plain, f.Text())
		case newest:
			resent = append(resent, f.Text())
		}
	}
	if len(r.seen) > 0 {
		return resent, nil
	}
	return plain, nil
}

// ErrNoAuthor says that a header does not name who sent the message.
var ErrNoAuthor = errors.New("neither Sender nor From names one address")

// Author gives the address of who sent a message, as Mailboxes cuts it out: that
// of Sender, or else the only one of From (RFC 5322 3.6.2); of the newest
// resending where there is one.
func (h *Header) Author() (string, error) {
	var plain, resent [2]string // Sender, From
	r := resending{seen: map[string]bool{}}
	for f := range h.All() {
		name, isResent, newest := r.bare(f)
		at := 1
		if name == "sender" {
			at = 0
		} else if name != "from" {
			continue
		}
		switch {
		case !isResent && plain[at] == "":
			plain[at] = f.Text()
		case newest:
			resent[at] = f.Text()
		}
	}
	of := plain
	if len(r.seen) > 0 {
		of = resent
	}
	for _, text := range of {
		if text == "" {
			continue
		}
		list, err := Mailboxes(text)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoAuthor, err)
		}
		if len(list) == 1 {
			return list[0], nil
		}
	}
	return "", ErrNoAuthor
}
