// Command nostore is the limit that the bench measures mailout against: a
// relay made of the same door (submit/smtpd), look-ups (dns) and client
// (smtpclient), that keeps messages in memory only and says 250 at once. It
// loses what it holds when it ends, and what a receiver refuses; it is no mail
// server.
//
// Each MX set has a bounded queue and, as mailout by default, at most 20
// sessions of at most 100 messages. A full queue makes the sender wait. Its
// goroutines are the door's and one for each session; all end with the process.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/submit"
	"mailout/internal/submit/smtpd"
)

// Limits of a site, as mailout's defaults.
const (
	sessions   = 20
	perSession = 100
	waiting    = 4096 // messages of a site
	idle       = 5 * time.Second
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2525", "address of the door")
	hostname := flag.String("hostname", "relay.bench.test", "EHLO name")
	trusted := flag.String("trusted", "127.0.0.0/8", "network that may send")
	flag.Parse()
	if err := run(*listen, *hostname, *trusted); err != nil {
		fmt.Fprintln(os.Stderr, "nostore:", err)
		os.Exit(1)
	}
}

func run(listen, hostname, trusted string) error {
	network, err := netip.ParsePrefix(trusted)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	r := &relay{ctx: ctx, hostname: hostname, resolver: dns.New(dns.Options{}), sites: map[string]*site{}, routes: map[string]*site{}}
	door := smtpd.New(smtpd.Options{Address: listen, Acceptor: r, Settings: smtpd.Settings{Hostname: hostname, Trusted: []netip.Prefix{network}}})
	if err := door.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil // what is in memory is lost: this is no mail server
}

// relay is the Acceptor and the routes.
type relay struct {
	ctx      context.Context
	hostname string
	resolver *dns.Resolver
	mu       sync.RWMutex
	sites    map[string]*site // by MX set
	routes   map[string]*site // by domain
}

// site is one MX set.
type site struct {
	relay *relay
	host  string
	addr  string
	queue chan *message
	mu    sync.Mutex
	open  int
}

// message is one in memory. It is the Draft and the Content too.
type message struct {
	relay   *relay
	request submit.Request
	data    []byte
}

// Check implements submit.Acceptor.
func (r *relay) Check(context.Context, *submit.Request) error { return nil }

// Begin implements submit.Acceptor.
func (r *relay) Begin(_ context.Context, q *submit.Request) (submit.Draft, error) {
	return &message{relay: r, request: *q}, nil
}

// Write implements submit.Draft.
func (m *message) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

// Abort implements submit.Draft.
func (m *message) Abort() {}

// Commit hands the message to the site of its recipients, which share one.
func (m *message) Commit(ctx context.Context) (mta.ID, error) {
	m.request.Recipients = slices.Clone(m.request.Recipients)
	address := m.request.Recipients[0].Address
	s, err := m.relay.route(ctx, address[strings.LastIndexByte(address, '@')+1:])
	if err != nil {
		return mta.ID{}, err
	}
	select {
	case s.queue <- m:
	case <-ctx.Done():
		return mta.ID{}, ctx.Err()
	}
	s.more()
	var entropy [10]byte
	rand.Read(entropy[:])
	return mta.NewID(time.Now(), entropy), nil
}

// ReadAt implements smtpclient.Content.
func (m *message) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size implements smtpclient.Content.
func (m *message) Size() int64 { return int64(len(m.data)) }

// Bytes implements smtpclient.Content.
func (m *message) Bytes() []byte { return m.data }

// route gives the site of a domain.
func (r *relay) route(ctx context.Context, domain string) (*site, error) {
	r.mu.RLock()
	s := r.routes[domain]
	r.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	mx, err := r.resolver.MX(ctx, domain)
	if err != nil {
		return nil, err
	}
	host := mx.Records[0].Host
	a, err := r.resolver.A(ctx, host)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sites[host] == nil {
		r.sites[host] = &site{relay: r, host: host, addr: net.JoinHostPort(a.Records[0].String(), "25"), queue: make(chan *message, waiting)}
	}
	r.routes[domain] = r.sites[host]
	return r.routes[domain], nil
}

// more opens another session while messages wait.
func (s *site) more() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open < sessions && (s.open == 0 || len(s.queue) > 0) {
		s.open++
		go s.deliver()
	}
}

// deliver sends what waits until nothing does.
func (s *site) deliver() {
	for s.session() {
	}
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	if len(s.queue) > 0 { // came while we left
		s.more()
	}
}

// session is one connection; it reports whether another is wanted.
func (s *site) session() bool {
	conn, err := new(net.Dialer).DialContext(s.relay.ctx, "tcp", s.addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nostore:", err)
		return false
	}
	c, failure := smtpclient.Open(s.relay.ctx, conn, smtpclient.Options{Hello: s.relay.hostname, Host: s.host})
	if failure != nil {
		fmt.Fprintln(os.Stderr, "nostore:", failure.Text, failure.Reply.String())
		return false
	}
	defer c.Quit()
	for range perSession {
		var m *message
		timer := time.NewTimer(idle)
		select {
		case m = <-s.queue:
			timer.Stop()
		case <-timer.C:
			return false
		}
		if err := send(c, m); err != nil {
			fmt.Fprintln(os.Stderr, "nostore: lost a message:", err)
			return true
		}
	}
	return true
}

func send(c *smtpclient.Session, m *message) error {
	out := c.Send(&smtpclient.Transaction{
		Sender: m.request.Envelope.Sender, Recipients: m.request.Recipients, Content: m, EightBit: true,
	})
	if out.Broken != nil {
		return errors.New(out.Broken.Text)
	}
	for _, v := range out.Verdicts {
		if v.Fate != smtpclient.Delivered {
			return fmt.Errorf("not delivered: %v", v.Failure)
		}
	}
	return nil
}
