package doctor

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailout/internal/mtatest"
)

// street is a network of fake mail servers in memory, which keeps every
// command that any of them hears.
type street struct {
	net mtatest.Net
	mu  struct {
		sync.Mutex
		heard []string
	}
}

// newStreet makes the connections of a world lead to the street.
func newStreet(t *testing.T, w *fakeWorld) *street {
	s := &street{}
	t.Cleanup(s.net.Close)
	w.dial = func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
		return s.net.DialFrom(ctx, network, source, address)
	}
	return s
}

// usual is the reply to EHLO of a healthy server; %s is where it sees us.
const usual = "250-mx.example.net Hello [%s]\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 STARTTLS\r\n"

// open puts a mail server at an address: banner and ehlo are raw replies, and
// %s in ehlo becomes sees, or the address that the connection comes from.
func (s *street) open(at, banner, ehlo, sees string) {
	s.net.Handle(netip.MustParseAddrPort(at), func(conn net.Conn) {
		from := sees
		if from == "" {
			from = conn.RemoteAddr().(*net.TCPAddr).IP.String()
		}
		fmt.Fprint(conn, banner)
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			s.hear(lines.Text())
			switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
			case "EHLO":
				fmt.Fprint(conn, strings.ReplaceAll(ehlo, "%s", from))
			case "QUIT":
				fmt.Fprint(conn, "221 bye\r\n")
				return
			default:
				fmt.Fprint(conn, "502 what\r\n")
			}
		}
	})
}

func (s *street) hear(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.heard = append(s.mu.heard, line)
}

func (s *street) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.heard)
}

// two puts up the two mail servers that most tests use.
func (s *street) two(sees string) []string {
	s.open("198.51.100.25:25", "220 mx.example.net ESMTP\r\n", usual, sees)
	s.open("198.51.100.26:25", "220 mail.example.org ESMTP\r\n", strings.Replace(usual, "mx.example.net", "mail.example.org", 1), sees)
	return []string{"198.51.100.25", "198.51.100.26"}
}

// examineFor runs some checks.
func examineFor(t *testing.T, w *fakeWorld, id Identity, only ...string) *Report {
	t.Helper()
	return Examine(t.Context(), id, w.world(), Options{Only: only})
}

// mustBe checks a finding's status and that its texts have what people need.
func (c Check) mustBe(t *testing.T, want Status, texts ...string) {
	t.Helper()
	all := c.Seen
	if c.Fix != nil {
		all += "\n" + c.Fix.Record + "\n" + c.Fix.Command + "\n" + c.Fix.Text
	}
	if c.Status != want {
		t.Errorf("%s %s is %s, want %s: %s", c.ID, c.Subject, c.Status, want, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%s %s does not say %q: %s", c.ID, c.Subject, text, all)
		}
	}
	if (want == Fail || want == Warn) && (c.Fix == nil || c.Fix.Text == "" || c.Who == "") {
		t.Errorf("%s %s: no fix, or nobody to make it: %+v", c.ID, c.Subject, c)
	}
	if c.Asked == "" || c.Why == "" || c.Seen == "" {
		t.Errorf("%s %s: something is left unsaid: %+v", c.ID, c.Subject, c)
	}
}

// TestMailServersHearEhloAndQuitOnly: no examination sends more, and a server
// is connected to once for each face whatever number of checks asks.
func TestMailServersHearEhloAndQuitOnly(t *testing.T) {
	w := newWorld(t)
	s := newStreet(t, w)
	id := goodIdentity()
	s.open("198.51.100.27:25", "220 old.example ESMTP\r\n", "500 5.5.1 command unknown\r\n", "")
	id.Probes = append(s.two(""), "198.51.100.25", "198.51.100.27")
	id.Reflectors = []string{"smtp:198.51.100.26"}
	Examine(t.Context(), id, w.world(), Options{})
	got := s.heard()
	slices.Sort(got)
	const ehlo = "EHLO mailout.ofc.widget.com" // refused or not: nobody hears HELO
	want := []string{ehlo, ehlo, ehlo, "QUIT", "QUIT", "QUIT"}
	if !slices.Equal(got, want) {
		t.Errorf("the mail servers heard %q", got)
	}
}

// TestManyProbesAreNotAllCalled holds the bound of connections.
func TestManyProbesAreNotAllCalled(t *testing.T) {
	w := newWorld(t)
	s := newStreet(t, w)
	id := goodIdentity()
	for i := range 20 {
		id.Probes = append(id.Probes, fmt.Sprintf("198.51.100.%d", 100+i))
	}
	examineFor(t, w, id, "port25", "address")
	calls := 0
	for _, d := range s.net.Dials() {
		if strings.HasSuffix(d.Address, ":25") {
			calls++
		}
	}
	if calls != maxProbes {
		t.Errorf("%d connections, want %d", calls, maxProbes)
	}
}

func TestSplitServer(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"mx.example.net": "mx.example.net 25", "mx.example.net:2525": "mx.example.net 2525", "192.0.2.1": "192.0.2.1 25",
		"192.0.2.1:26": "192.0.2.1 26", "2001:db8::1": "2001:db8::1 25", "[2001:db8::1]": "2001:db8::1 25", "[2001:db8::1]:26": "2001:db8::1 26",
		"mx.example.net:0": "mx.example.net:0 25",
	} {
		if host, port := splitServer(in, 25); fmt.Sprint(host, " ", port) != want {
			t.Errorf("%s: %s %d", in, host, port)
		}
	}
}
