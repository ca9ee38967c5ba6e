package unsubscribe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"mailout/internal/header"
	"mailout/internal/keyring"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/spool"
)

// Store is the spool as the desk uses it.
type Store interface {
	Put(ctx context.Context, subs ...*spool.Submission) error
	Records(ctx context.Context, filter spool.RecordFilter, f func(*mta.Record) bool) error
}

// List is the suppression list (suppress.List).
type List interface {
	Left(ctx context.Context, address, stream string) (bool, error)
	Unsubscribe(ctx context.Context, address, stream string, message mta.ID, how string) (fresh bool, err error)
}

// Stream is what the mail of one stream gets.
type Stream struct {
	Feedback Feedback
	Link     bool   // the fields of one-click unsubscription
	Places   Places // of List-Unsubscribe
}

func (s *Stream) wants() bool { return s.Link || !s.Feedback.Empty() }

// Settings may change while mail flows.
type Settings struct {
	URL     string // that links begin with, without a slash at its end; empty: there are no links
	Streams map[string]Stream
}

// Options are what a Desk is built of. Keys, Store and List are needed.
type Options struct {
	Keys     string // path of the file of keys
	Store    Store
	List     List
	Settings Settings
	Logger   *slog.Logger     // nil discards
	Now      func() time.Time // nil: time.Now
}

// Desk makes links and takes in who follows them. It is safe for concurrent use.
type Desk struct {
	opts     Options
	log      *slog.Logger
	now      func() time.Time
	keys     atomic.Pointer[sealers] // nil: not read, for there is no URL
	settings atomic.Pointer[Settings]
	counts   counters
	trouble  rate.Sometimes

	stop    context.CancelFunc
	stopped sync.WaitGroup
	making  sync.Mutex     // of keys
	lanes   [64]sync.Mutex // by recipient: of two requests the second finds what the first wrote
	seed    maphash.Seed
}

// New makes a desk. With a URL the keys are read, or made; the error says what is
// wrong with them.
func New(o Options) (*Desk, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Desk{opts: o, log: o.Logger, now: o.Now, trouble: rate.Sometimes{First: 3, Interval: time.Minute}, seed: maphash.MakeSeed()}
	return d, d.Configure(o.Settings)
}

// Configure replaces the settings. On an error those before stay.
func (d *Desk) Configure(s Settings) error {
	if s.URL != "" {
		if err := d.renew(); err != nil {
			return err
		}
	}
	kept := Settings{URL: s.URL, Streams: make(map[string]Stream, len(s.Streams))}
	for name, one := range s.Streams {
		if one.Link = one.Link && s.URL != ""; one.wants() {
			kept.Streams[name] = one
		}
	}
	d.settings.Store(&kept)
	return nil
}

// keep is how long a key is kept after its successor came: until keyring.MaxKeys
// bounds it, at nearly four years. A time would let a clock that is wrong for a
// moment end all links.
const keep = time.Duration(math.MaxInt64)

// renew reads the keys, and makes one when it is time.
func (d *Desk) renew() error {
	d.making.Lock()
	defer d.making.Unlock()
	ring, err := keyring.Open(d.opts.Keys, d.now(), keyring.Use{
		Keys: "the keys of unsubscription", Harm: "unsubscribe anybody", Loss: "the links in older mail are then dead", Keep: keep,
	})
	if err != nil {
		return err
	}
	all, err := newSealers(ring)
	if err != nil {
		return fmt.Errorf("the keys of unsubscription: %w", err)
	}
	d.keys.Store(&all)
	return nil
}

// renewEvery is how often it is looked whether the key is old.
const renewEvery = 12 * time.Hour

// Start begins to look after the keys. The end of ctx does not stop it.
func (d *Desk) Start(ctx context.Context) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.stopped.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if d.keys.Load() == nil {
					continue
				}
				if err := d.renew(); err != nil {
					d.log.Error("the keys of unsubscription cannot be renewed; those in use stay", mta.KeyError, err)
				}
			case <-run.Done():
				return
			}
		}
	})
}

// Stop ends the goroutine.
func (d *Desk) Stop() {
	if d.stop != nil {
		d.stop()
		d.stopped.Wait()
	}
}

// Apart reports whether each recipient of a delivery needs a transaction of its
// own, for its link.
func (d *Desk) Apart(v *mta.Delivery) bool {
	return v.Message.Kind == mta.KindMail && d.settings.Load().Streams[v.Message.Stream].Link
}

// Fields gives the header fields, each with its CRLF, that go out in front of a
// message for some recipients; nil: none, as for all mail of a stream that wants
// none, of which nothing is read. Links are made for one recipient alone: see
// Apart. Fields that the message brings are its application's, and stay: with
// either of the fields of unsubscription it gets neither of ours. The error is
// that of reading the content.
func (d *Desk) Fields(m *mta.Message, recipients []mta.Recipient, content smtpclient.Content) ([]byte, error) {
	s := d.settings.Load()
	stream, wants := s.Streams[m.Stream]
	if !wants || m.Kind != mta.KindMail {
		return nil, nil
	}
	own, err := ownFields(content)
	if err != nil {
		return nil, err
	}
	var out []byte
	if !stream.Feedback.Empty() && !own.feedback {
		out = append(append(append(out, "Feedback-ID: "...), stream.Feedback.value(m)...), "\r\n"...)
	}
	switch {
	case !stream.Link:
	case own.list:
		d.counts.own.Add(1)
	case len(recipients) != 1:
		d.counts.unfit.Add(1)
	default:
		out = d.appendLink(out, s.URL, &stream, m, recipients[0].Address)
	}
	return out, nil
}

// appendLink adds the fields of RFC 8058 3.1.
func (d *Desk) appendLink(dst []byte, url string, stream *Stream, m *mta.Message, address string) []byte {
	keys := *d.keys.Load() // there are keys where there is a URL
	space := make([]byte, 0, MaxURL)
	link, ok := keys[0].appendToken(append(append(space, url...), '/'), leave{stream: m.Stream, address: address, message: m.ID}, MaxURL-len(url)-1)
	if !ok {
		d.counts.unfit.Add(1)
		return dst
	}
	d.counts.links.Add(1)
	text := string(link)
	dst = append(append(dst, "List-Unsubscribe: "...), stream.Places.value(text, text[len(url)+1:], m.Stream)...)
	return append(dst, "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"...)
}

// owns are the fields that a message brings.
type owns struct{ feedback, list bool }

// ownFields looks what a message brings. A header beyond the bounds of package
// header is taken to bring all of them.
func ownFields(content smtpclient.Content) (o owns, err error) {
	h, err := readHeader(content)
	if errors.Is(err, header.ErrTooLarge) {
		return owns{true, true}, nil
	}
	if err != nil {
		return o, err
	}
	for f := range h.All() {
		switch {
		case f.Is("Feedback-ID"):
			o.feedback = true
		case f.Is("List-Unsubscribe"), f.Is("List-Unsubscribe-Post"):
			o.list = true
		}
	}
	return o, nil
}

func readHeader(content smtpclient.Content) (*header.Header, error) {
	if all := content.Bytes(); all != nil {
		h, _, err := header.Parse(all, header.Limits{})
		return h, err
	}
	h, _, err := header.Read(content, content.Size(), header.Limits{})
	return h, err
}

// errUnknown says that a token is none of ours.
var errUnknown = errors.New("the token is unknown")

// open reads a token.
func (d *Desk) open(token string) (leave, error) {
	if all := d.keys.Load(); all != nil {
		if l, ok := all.open(token); ok {
			return l, nil
		}
	}
	return leave{}, errUnknown
}

// leave does what a link says. It returns when that is on stable storage. fresh
// is false when the same was said before.
//
// The journal comes first: after a crash in between the second try writes
// another record, while the other way round there would be none. Trouble with the
// journal does not keep anybody from leaving.
func (d *Desk) leave(ctx context.Context, l leave) (fresh bool, err error) {
	lane := &d.lanes[maphash.String(d.seed, strings.ToLower(l.address))%uint64(len(d.lanes))]
	lane.Lock()
	defer lane.Unlock()
	if left, err := d.opts.List.Left(ctx, l.address, l.stream); err != nil || left {
		return false, err
	}
	if err := d.record(ctx, l); err != nil {
		d.counts.trouble.Add(1)
		d.log.Error("an unsubscription cannot be written into the journal; it counts all the same", mta.KeyID, l.message.String(), mta.KeyError, err)
	}
	return d.opts.List.Unsubscribe(ctx, l.address, l.stream, l.message, "by the link in a message")
}

// record tells the journal, if it knows the message.
func (d *Desk) record(ctx context.Context, l leave) error {
	if l.message.IsZero() {
		return nil
	}
	var accepted *mta.Record
	err := d.opts.Store.Records(ctx, spool.RecordFilter{ID: l.message, Recipient: l.address}, func(r *mta.Record) bool {
		if r.Event == mta.EventAccepted && strings.EqualFold(r.Recipient, l.address) {
			accepted = r
		}
		return accepted == nil
	})
	if err != nil || accepted == nil {
		return err
	}
	var bits [10]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return err
	}
	now := time.UnixMilli(d.now().UnixMilli()).UTC()
	return d.opts.Store.Put(ctx, &spool.Submission{
		Message: &mta.Message{ID: mta.NewID(now, bits), Arrived: now, Stream: accepted.Stream, Kind: mta.KindNotice},
		Records: []*mta.Record{{
			Time: now, Event: mta.EventUnsubscribed, ID: accepted.ID, MessageID: accepted.MessageID, Stream: accepted.Stream,
			Sender: accepted.Sender, Recipient: accepted.Recipient, Destination: accepted.Destination, Size: accepted.Size,
			Tags: accepted.Tags, Metadata: accepted.Metadata, Reason: "unsubscribed from the stream " + l.stream + " by the link in the message",
		}},
	})
}
