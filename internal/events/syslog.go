package events

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Syslog is where events are written as lines of RFC 5424, or as entries of the
// systemd journal.
type Syslog struct {
	URL    string // see CheckSyslog; empty: nowhere
	Filter Filter
}

func (s *Syslog) equal(o *Syslog) bool { return s.URL == o.URL && s.Filter.equal(&o.Filter) }

const (
	journaldSocket = "/run/systemd/journal/socket"
	syslogPort     = "514"
	syslogTime     = 10 * time.Second // to connect, and for one line
	syslogOctets   = 8 << 10          // of one line; longer ones go without their tries
	facilityMail   = 2
)

// errSyslog says what a place for syslog lines looks like.
var errSyslog = errors.New(`is no place for syslog lines (write for example "unix:///dev/log", "udp://192.0.2.1:514", "tcp://192.0.2.1:601" or "journald")`)

// CheckSyslog tells whether a text names a place for events: "journald",
// "unix:///dev/log", "udp://HOST[:PORT]" or "tcp://HOST[:PORT]".
func CheckSyslog(place string) error {
	_, _, err := syslogAddress(place)
	return err
}

// syslogAddress gives network and address; the network of a Unix socket is
// found out when it is connected to.
func syslogAddress(place string) (network, address string, err error) {
	if place == "journald" {
		return "journald", journaldSocket, nil
	}
	u, err := url.Parse(place)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", "", errSyslog
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return "unix", u.Path, nil
	case (u.Scheme == "udp" || u.Scheme == "tcp") && u.Hostname() != "" && strings.Trim(u.Path, "/") == "":
		port := u.Port()
		if port == "" {
			port = syslogPort
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", errSyslog
		}
		return u.Scheme, net.JoinHostPort(u.Hostname(), port), nil
	}
	return "", "", errSyslog
}

// syslogOutput writes to one place.
type syslogOutput struct {
	network, address string
	host             string
	pid              string
	dial             func(ctx context.Context, network, address string) (net.Conn, error)
	conn             net.Conn
	stream           bool // with a length before each line (RFC 6587 3.4.1)
}

func newSyslogFollower(o *Options, conf Syslog) (*liner, error) {
	network, address, err := syslogAddress(conf.URL)
	if err != nil {
		return nil, err
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: syslogTime}).DialContext
	}
	out := &syslogOutput{network: network, address: address, host: o.Hostname, pid: strconv.Itoa(os.Getpid()), dial: dial}
	return &liner{
		name: "syslog", feed: o.Feed, filter: conf.Filter, log: o.Logger, told: &telling{kind: "syslog", name: conf.URL},
		out: out, as: func(s *Settings) bool { return s.Syslog.equal(&conf) && out.host == o.Hostname },
	}, nil
}

// severity is how much an event asks for attention (RFC 5424 6.2.1).
func severity(e mta.Event) int {
	const warning, notice, info = 4, 5, 6
	switch e {
	case mta.EventFailed, mta.EventExpired, mta.EventBounced, mta.EventComplained, mta.EventIdentity, mta.EventFollower, mta.EventRouter, mta.EventStanding:
		return warning
	case mta.EventDeferred, mta.EventHeld, mta.EventSuppressed:
		return notice
	}
	return info
}

// render implements output.
func (o *syslogOutput) render(at spool.Position, r *mta.Record) ([]byte, error) {
	text, err := json.Marshal(New(at, r))
	if err != nil {
		return nil, err
	}
	if len(text) > syslogOctets {
		if text, err = json.Marshal(New(at, shortened(r))); err != nil {
			return nil, err
		}
	}
	if o.network == "journald" {
		return journalEntry(at, r, text), nil
	}
	// RFC 5424 6: <PRI>VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG
	head := "<" + itoa(facilityMail*8+severity(r.Event)) + ">1 " + mta.FormatTime(r.Time) + " " + o.host + " mailout " + o.pid + " " + r.Event.String() + " - "
	return append([]byte(head), text...), nil
}

// shortened is a record without what makes it long.
func shortened(r *mta.Record) *mta.Record {
	const most = 1000
	short := *r
	short.Tries, short.Tags, short.Metadata = nil, nil, nil
	for _, s := range []*string{&short.Reply, &short.Reason, &short.Site, &short.MessageID} {
		if len(*s) > most {
			*s = strings.ToValidUTF8((*s)[:most], "") + "…"
		}
	}
	return &short
}

// journalEntry is an entry in the form of the systemd journal's socket.
func journalEntry(at spool.Position, r *mta.Record, text []byte) []byte {
	var b []byte
	add := func(name, value string) {
		if value == "" {
			return
		}
		if strings.IndexByte(value, '\n') < 0 {
			b = append(append(append(append(b, name...), '='), value...), '\n')
			return
		}
		b = append(append(b, name...), '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
		b = append(append(b, value...), '\n')
	}
	add("MESSAGE", string(text))
	add("PRIORITY", itoa(severity(r.Event)))
	add("SYSLOG_FACILITY", itoa(facilityMail))
	add("SYSLOG_IDENTIFIER", "mailout")
	add("MAILOUT_CURSOR", at.String())
	add("MAILOUT_EVENT", r.Event.String())
	add("MAILOUT_ID", r.ID.String())
	add("MAILOUT_RECIPIENT", r.Recipient)
	add("MAILOUT_STREAM", r.Stream)
	return b
}

// write implements output: what was handed to the socket counts as written, and
// there is no more to be had of these protocols.
func (o *syslogOutput) write(ctx context.Context, lines []line) (safe int, err error) {
	if err := o.connect(ctx); err != nil {
		return 0, err
	}
	var framed bytes.Buffer
	for i, l := range lines {
		if ctx.Err() != nil {
			return i, ctx.Err()
		}
		text := l.text
		if o.stream {
			framed.Reset()
			framed.WriteString(itoa(len(text)) + " ")
			framed.Write(text)
			text = framed.Bytes()
		}
		_ = o.conn.SetWriteDeadline(time.Now().Add(syslogTime)) // one that cannot is closed already
		if _, err := o.conn.Write(text); err != nil {
			o.close()
			return i, err
		}
	}
	return len(lines), nil
}

// connect makes sure that there is a connection.
func (o *syslogOutput) connect(ctx context.Context) (err error) {
	if o.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, syslogTime)
	defer cancel()
	switch o.network {
	case "journald":
		o.conn, err = o.dial(ctx, "unixgram", o.address)
	case "unix":
		o.stream = false
		if o.conn, err = o.dial(ctx, "unixgram", o.address); err != nil {
			o.stream = true
			o.conn, err = o.dial(ctx, "unix", o.address)
		}
	default:
		o.stream = o.network == "tcp"
		o.conn, err = o.dial(ctx, o.network, o.address)
	}
	if err != nil {
		o.conn = nil
	}
	return err
}

// last implements output: nobody can be asked.
func (o *syslogOutput) last() spool.Position { return spool.Position{} }

// tick implements output.
func (o *syslogOutput) tick(context.Context) error { return nil }

// close implements output.
func (o *syslogOutput) close() {
	if o.conn != nil {
		_ = o.conn.Close()
		o.conn = nil
	}
}
