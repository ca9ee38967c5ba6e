package transport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// moody is a server that decides by a list of numbers, and remembers what it
// took: the truth that results are held against.
type moody struct {
	mu struct {
		sync.Mutex
		moods  []byte
		taken  map[string]int  // "id of the message rcpt": final 2xx written, whole
		silent map[string]bool // the content came whole, but its 2xx did not go out whole
	}
}

// mood is the next decision, below n; 0 once the list is used up.
func (m *moody) mood(n byte) byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.moods) == 0 {
		return 0
	}
	x := m.mu.moods[0]
	m.mu.moods = m.mu.moods[1:]
	return x % n
}

// say answers with yes, mostly, and reports the code's first digit; 0 when the
// connection is to end.
func (m *moody) say(w io.Writer, yes string) byte {
	text := yes
	switch m.mood(24) {
	case 1:
		text = "421 4.3.2 closing"
	case 2:
		text = "450 4.2.1 later"
	case 3:
		text = "452 4.5.3 too many"
	case 4:
		text = "550 5.1.1 no"
	case 5:
		text = "451 4.3.0 oops"
	case 6:
		text = "354 what"
	case 7:
		return 0
	case 8:
		text = "what?"
	case 9:
		text = "250-never\r\n250-ending"
		_, _ = io.WriteString(w, text)
		return 0
	case 10:
		text = "552 full"
	}
	if _, err := io.WriteString(w, text+"\r\n"); err != nil {
		return 0
	}
	if strings.HasPrefix(text, "421") && m.mood(2) == 0 {
		return 0
	}
	return text[0] - '0'
}

func (m *moody) serve(conn net.Conn) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	if m.say(conn, "220 moody") == 0 {
		return
	}
	var to []string
	var id string
	begun := false
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		digit := byte(2)
		switch verb {
		case "EHLO":
			digit = m.say(conn, "250-moody"+[]string{"", "\r\n250-PIPELINING", "\r\n250-PIPELINING\r\n250-CHUNKING"}[m.mood(3)]+"\r\n250 SIZE")
		case "MAIL":
			id, _, _ = strings.Cut(arg, " ")
			to = nil
			digit = m.say(conn, "250 ok")
			begun = digit == 2
		case "RCPT":
			if !begun {
				digit = m.say(conn, "503 no MAIL")
			} else if digit = m.say(conn, "250 ok"); digit == 2 {
				to = append(to, arg)
			}
		case "DATA":
			if digit = m.say(conn, "354 go"); digit == 3 {
				digit = m.content(conn, br, -1, id, to)
			}
		case "BDAT":
			n, _ := strconv.Atoi(strings.TrimSuffix(arg, " LAST"))
			digit = m.content(conn, br, n, id, to)
		case "QUIT":
			digit = 0
		default:
			digit = m.say(conn, "250 ok")
		}
		if digit == 0 {
			return
		}
	}
}

// content reads one message and answers it.
func (m *moody) content(conn net.Conn, br *bufio.Reader, n int, id string, to []string) byte {
	if n >= 0 {
		if _, err := io.CopyN(io.Discard, br, int64(n)); err != nil {
			return 0
		}
	}
	for n < 0 {
		line, err := br.ReadString('\n')
		if err != nil {
			return 0
		}
		if line == ".\r\n" {
			break
		}
	}
	digit := m.say(conn, "250 taken")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range to {
		switch digit {
		case 2:
			m.mu.taken[id+r]++
		case 0:
			m.mu.silent[id+r] = true
		}
	}
	return digit
}

// Whatever servers do: every recipient has one result; what a server took with
// a 2xx is delivered, once; what it did not take is not; a lost answer to a
// whole message is uncertain, never permanent.
func TestPropertyEveryRecipientHasItsResult(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		moods := [2][]byte{rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(rt, "first"), rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(rt, "second")}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 4).Draw(rt, "recipients")
		var wrong string
		synctest.Test(t, func(*testing.T) { wrong = moodyWorld(moods, sizes) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func moodyWorld(moods [2][]byte, sizes []int) string {
	var servers [2]*moody
	var net mtatest.Net
	route := &mta.Route{Site: "moody", Port: 25, TLS: mta.TLSNone, Helo: "out.example.org"}
	for i := range servers {
		m := &moody{}
		m.mu.moods, m.mu.taken, m.mu.silent = moods[i], map[string]int{}, map[string]bool{}
		servers[i] = m
		ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		net.Handle(netip.AddrPortFrom(ip, 25), m.serve)
		route.Hosts = append(route.Hosts, mta.Host{Name: fmt.Sprintf("mx%d", i), Preference: uint16(i), Addresses: []netip.Addr{ip}})
	}
	bodies := store{}
	w := &world{bodies: bodies, route: route}
	work := &jobs{w: w}
	for i, n := range sizes {
		d := w.mail()
		d.Message.Envelope.Sender = fmt.Sprintf("m%d@x", i)
		for r := range n {
			d.Recipients = append(d.Recipients, mta.Recipient{Address: fmt.Sprintf("r%d@y", r)})
		}
		work.list = append(work.list, job{d: d})
	}
	c := New(Options{Content: bodies, Dial: net.DialFrom, Shuffle: func(int, func(i, j int)) {}})
	ctx := context.Background()
	c.Carry(ctx, ctx, route, work)
	net.Close()
	return checkMoody(servers[:], work)
}

func checkMoody(servers []*moody, work *jobs) string {
	if len(work.attempts) != len(work.list) {
		return fmt.Sprintf("%d attempts of %d deliveries", len(work.attempts), len(work.list))
	}
	for k, a := range work.attempts {
		d := work.list[k].d
		if len(a.Results) != len(d.Recipients) {
			return "a result is missing"
		}
		for i, result := range a.Results {
			key := fmt.Sprintf("FROM:<%s>TO:<%s>", d.Message.Envelope.Sender, d.Recipients[i].Address)
			taken, silent := 0, false
			for _, m := range servers {
				taken += m.mu.taken[key]
				silent = silent || m.mu.silent[key]
			}
			if wrong := against(result, taken, silent); wrong != "" {
				return fmt.Sprintf("message %d, recipient %d: %s: %+v\n%s", k, i, wrong, result, told(a))
			}
		}
	}
	return ""
}

func against(r mta.Result, taken int, silent bool) string {
	switch {
	case r.Enhanced.IsZero() || r.Class != mta.ClassDelivered && r.Reason == "":
		return "no status or reason"
	case taken > 1:
		return "taken twice"
	case r.Class == mta.ClassDelivered && taken == 0:
		return "delivered, and never taken"
	case taken == 1 && r.Class != mta.ClassDelivered && r.Class != mta.ClassUncertain:
		return "taken, and not delivered"
	case silent && taken == 0 && r.Class == mta.ClassPermanent:
		return "bounced, and maybe taken"
	}
	return ""
}
