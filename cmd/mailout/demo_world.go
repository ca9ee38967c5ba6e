package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"mailout/internal/mtatest"
)

// Names and addresses of the demonstration's world.
const (
	demoHostname = "mailout.demo.example"
	demoSender   = "app@widget.example"
	demoDeadHost = "dead.twomx.example"
	demoDeadIP   = "127.0.0.9"
)

// demoServer is one receiving server.
type demoServer struct {
	domain, host string
	addr         netip.Addr
	about        string
	cfg          mtatest.MXConfig
	mx           *mtatest.MX
}

// demoWorld is the DNS server and the receiving servers. The port is the same
// at every address, so that one `delivery.port` fits all.
type demoWorld struct {
	dns     *mtatest.DNS
	servers []*demoServer
	port    uint16
	// begun says that the story is told: before, the daemon examines its own
	// identity, and what it asks for that is not shown.
	begun atomic.Bool
	// arrived tells that some server took a message; one token is enough.
	arrived chan struct{}
}

func demoServers() ([]*demoServer, error) {
	authority, err := mtatest.NewAuthority()
	if err != nil {
		return nil, err
	}
	certificate, err := authority.Certificate(true, "mx.tls.example")
	if err != nil {
		return nil, err
	}
	servers := []*demoServer{
		{domain: "fine.example", host: "mx.fine.example", about: "accepts everything"},
		{domain: "tls.example", host: "mx.tls.example", about: "offers STARTTLS", cfg: mtatest.MXConfig{Certificate: certificate}},
		{domain: "grey.example", host: "mx.grey.example", about: "greylists: the first try is asked to come again", cfg: mtatest.MXConfig{Rules: []mtatest.Rule{
			{Stage: mtatest.StageRcpt, Action: mtatest.Action{Greylist: 1, Reply: "451 4.7.1 Greylisted, please come back a little later"}},
		}}},
		{domain: "users.example", host: "mx.users.example", about: "knows one user, dora", cfg: mtatest.MXConfig{Users: []string{"dora@users.example"}}},
		{domain: "twomx.example", host: "alive.twomx.example", about: "is the second choice; the first, " + demoDeadHost + ", is down"},
		{domain: "widget.example", host: "mx.widget.example", about: "is the sender's own server, where bounces go"},
	}
	for i, s := range servers {
		s.addr = netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		s.cfg.Hostname = s.host
	}
	return servers, nil
}

// demoZone gives the DNS records of servers.
func demoZone(servers []*demoServer) string {
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "%s. MX 20 %s.\n%s. A %s\n", s.domain, s.host, s.host, s.addr)
	}
	fmt.Fprintf(&b, "twomx.example. MX 10 %s.\n%s. A %s\n", demoDeadHost, demoDeadHost, demoDeadIP)
	fmt.Fprintf(&b, "%s. A 127.0.0.1\n", demoHostname)
	return b.String()
}

func newDemoWorld(show *demoPrinter) (*demoWorld, error) {
	servers, err := demoServers()
	if err != nil {
		return nil, fail(exitSoftware, "demo: %v", err)
	}
	w := &demoWorld{dns: mtatest.NewDNS(), servers: servers, arrived: make(chan struct{}, 1)}
	if err := w.dns.Add(demoZone(servers)); err != nil {
		return nil, fail(exitSoftware, "demo: %v", err)
	}
	w.dns.OnQuery = func(q mtatest.Query) {
		if w.begun.Load() {
			show.line("DNS", shownQuery(q))
		}
	}
	if err := w.dns.Start("127.0.0.1:0"); err != nil {
		return nil, fail(exitUnavailable, "demo: %v", err)
	}
	listeners, port, err := w.listen()
	if err != nil {
		w.dns.Stop()
		return nil, fail(exitUnavailable, "demo: this machine has no free port on the loopback addresses 127.0.0.2 to 127.0.0.%d: %v\n(Linux has them all; elsewhere add them to the loopback interface first)", 1+len(servers), err)
	}
	w.port = port
	for i, s := range servers {
		s.cfg.OnEvent = func(e mtatest.Event) {
			if w.begun.Load() {
				show.server(s.host, e)
			}
		}
		s.cfg.OnMessage = w.onMessage
		s.mx = mtatest.NewMX(s.cfg)
		s.mx.Serve(listeners[i])
	}
	return w, nil
}

// listen finds one port that is free at every server's address.
func (w *demoWorld) listen() (all []net.Listener, port uint16, err error) {
	for range 10 { // the port that the first address got may be taken at another
		port, all = 0, nil
		for _, s := range w.servers {
			var l net.Listener
			l, err = net.Listen("tcp", netip.AddrPortFrom(s.addr, port).String())
			if err != nil {
				break
			}
			all = append(all, l)
			port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		if err == nil {
			return all, port, nil
		}
		for _, l := range all {
			l.Close()
		}
	}
	return nil, 0, err
}

func (w *demoWorld) onMessage(*mtatest.Message) {
	select {
	case w.arrived <- struct{}{}:
	default: // a token is waiting
	}
}

// server gives the server of a host name; nil when there is none.
func (w *demoWorld) server(host string) *demoServer {
	for _, s := range w.servers {
		if s.host == host {
			return s
		}
	}
	return nil
}

// received gives the messages that the server took for recipient.
func (s *demoServer) received(recipient string) []*mtatest.Message {
	var found []*mtatest.Message
	for _, m := range s.mx.Messages() {
		for _, to := range m.To {
			if to.Address == recipient {
				found = append(found, m)
			}
		}
	}
	return found
}

func (w *demoWorld) stop() {
	for _, s := range w.servers {
		s.mx.Stop()
	}
	w.dns.Stop()
}

func shownQuery(q mtatest.Query) string {
	records := make([]string, len(q.Answers))
	for i, r := range q.Answers {
		records[i] = strings.TrimSuffix(r, ".")
	}
	slices.Sort(records) // the order in an answer means nothing
	answer := strings.Join(records, ", ")
	switch {
	case q.Rcode != "NOERROR":
		answer = "no such name (" + q.Rcode + ")"
	case answer == "":
		answer = "no such record"
	}
	return fmt.Sprintf("look-up: %s %s → %s", q.Name, q.Type, answer)
}
