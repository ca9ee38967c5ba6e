package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tamper is what somebody on the way does to STARTTLS.
type tamper string

const (
	pass   tamper = "pass"   // nothing
	strip  tamper = "strip"  // takes it out of the reply to EHLO
	refuse tamper = "refuse" // answers it with 454
	hangUp tamper = "close"  // lets it begin, and closes the connection
)

// proxy stands between senders and Postfix on an address of its own. It keeps
// the recipients that it read in clear text.
type proxy struct {
	listener net.Listener
	mu       struct {
		sync.Mutex
		way   tamper
		conns []net.Conn
		read  []string
	}
}

// The proxies of lab.env: one for each way, and one that changes its ways.
var (
	proxies = sync.OnceValues(func() (map[tamper]*proxy, error) {
		all := map[tamper]*proxy{}
		for way, ip := range map[tamper]string{strip: "127.0.1.71", refuse: "127.0.1.72", hangUp: "127.0.1.73", pass: "127.0.1.74"} {
			p, err := startProxy(ip, way)
			if err != nil {
				return nil, err
			}
			all[way] = p
		}
		return all, nil
	})
	clearRecipient = regexp.MustCompile(`(?i)^RCPT TO:<([^>]*)>`)
)

// tamperers starts the proxies, which serve to the end of the run.
func tamperers(t *testing.T) map[tamper]*proxy {
	t.Helper()
	needLab(t)
	all, err := proxies()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func startProxy(ip string, way tamper) (*proxy, error) {
	p := &proxy{}
	p.mu.way = way
	var err error
	if p.listener, err = net.Listen("tcp", ip+":25"); err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p, nil
}

// turn changes what the proxy does, and ends the sessions that it carries.
func (p *proxy) turn(way tamper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.way = way
	for _, c := range p.mu.conns {
		c.Close()
	}
	p.mu.conns = nil
}

// saw tells whether a recipient was named in clear text.
func (p *proxy) saw(recipient string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.mu.read, recipient)
}

func (p *proxy) heard(recipient string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.read = append(p.mu.read, recipient)
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", "127.0.1.1:25")
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	way := p.mu.way
	p.mu.conns = append(p.mu.conns, client, server)
	p.mu.Unlock()
	go func() {
		defer client.Close()
		p.replies(client, server, way)
	}()
	p.commands(client, server, way)
}

// replies passes on what the server says. Lines that are not of an EHLO reply
// do not look like the one that is left out.
func (p *proxy) replies(client, server net.Conn, way tamper) {
	if way == pass {
		_, _ = io.Copy(client, server)
		return
	}
	in := bufio.NewReader(server)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if way == strip && line == "250-STARTTLS\r\n" {
			continue
		}
		if _, err := io.WriteString(client, line); err != nil {
			return
		}
	}
}

func (p *proxy) commands(client, server net.Conn, way tamper) {
	in := bufio.NewReader(client)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if m := clearRecipient.FindStringSubmatch(line); m != nil {
			p.heard(m[1])
		}
		starts := strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
		switch {
		case starts && way == refuse:
			_, err = fmt.Fprint(client, "454 4.7.0 TLS not available due to local problem\r\n")
		case starts && way == hangUp:
			_, _ = fmt.Fprint(client, "220 2.0.0 Ready to start TLS\r\n")
			return
		default:
			_, err = io.WriteString(server, line)
		}
		if err != nil {
			return
		}
		if starts && way == pass {
			_, _ = io.Copy(server, in)
			return
		}
	}
}
