package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// Reflectors are services that answer with the address they were asked from.

// Bounds of asking one.
const (
	reflectorTimeout = 5 * time.Second
	maxReflection    = 4 << 10 // octets of a body that are read
)

// errSaysNothing is a witness's silence.
var errSaysNothing = errors.New("does not say which address it sees")

// reflectorWay asks one reflector from a face.
func (x *exam) reflectorWay(ctx context.Context, f face, text string) way {
	if server, ok := strings.CutPrefix(text, "smtp:"); ok {
		return x.greetingWay(ctx, f, strings.ToLower(server))
	}
	ctx, cancel := context.WithTimeout(ctx, reflectorTimeout)
	defer cancel()
	w := way{Name: text, kind: wayReflector, witness: witnessOf(text)}
	switch {
	case strings.HasPrefix(text, "dns:"):
		w.Visible, w.Err = x.reflectDNS(ctx, f, text)
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		w.Visible, w.Err = x.reflectHTTP(ctx, f, text)
	default:
		w.Err = errors.New(`is no reflector; write "dns:NAME/TYPE@SERVER", "https://…" or "smtp:HOST"`)
	}
	if w.Err == nil && w.Visible.Is6() != f.V6 {
		w.Visible, w.Err = netip.Addr{}, fmt.Errorf("answered with %s, which is of the other family", w.Visible)
	}
	return w
}

// witnessOf is the host that a reflector's answer comes from.
func witnessOf(text string) string {
	if strings.HasPrefix(text, "dns:") {
		host, _ := splitServer(text[strings.LastIndexByte(text, '@')+1:], 53)
		return strings.ToLower(host)
	}
	if u, err := url.Parse(text); err == nil {
		return strings.ToLower(u.Hostname())
	}
	return ""
}

// parseReflector takes "dns:NAME/TYPE@SERVER" apart; SERVER is a name or an
// address, with or without a port.
func parseReflector(text string) (name string, qtype uint16, server string, port uint16, err error) {
	question, at, ok := strings.Cut(strings.TrimPrefix(text, "dns:"), "@")
	name, kind, typed := strings.Cut(question, "/")
	qtype = wire.StringToType[strings.ToUpper(kind)]
	if !ok || !typed || name == "" || at == "" || qtype != wire.TypeA && qtype != wire.TypeAAAA && qtype != wire.TypeTXT {
		return "", 0, "", 0, errors.New(`is no reflector; write "dns:NAME/TYPE@SERVER" with type A, AAAA or TXT`)
	}
	server, port = splitServer(at, 53)
	return name, qtype, server, port, nil
}

// reflectDNS asks a name server that answers with the asker's address.
func (x *exam) reflectDNS(ctx context.Context, f face, text string) (netip.Addr, error) {
	name, qtype, server, port, err := parseReflector(text)
	if err != nil {
		return netip.Addr{}, err
	}
	to, err := x.resolve(ctx, server, f.V6)
	if err != nil {
		return netip.Addr{}, err
	}
	family := "4"
	if f.V6 {
		family = "6"
	}
	from := func(ctx context.Context, network, address string) (net.Conn, error) {
		return x.world.Dial(ctx, f.Local, network+family, address)
	}
	r, err := dns.Ask(ctx, from, dns.Probe{Server: netip.AddrPortFrom(to, port), Name: name, Type: qtype, Timeout: reflectorTimeout})
	if err != nil {
		return netip.Addr{}, err
	}
	a := read(answer{question: question{wire.CanonicalName(name), qtype}, server: netip.AddrPortFrom(to, port)}, r.Msg)
	if a.err != nil {
		return netip.Addr{}, a.err
	}
	if addrs := a.addrs(); len(addrs) > 0 {
		return addrs[0], nil
	}
	for _, t := range a.texts() {
		if addr, ok := addressIn(t); ok {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("answered %s: %w", a.said(), errSaysNothing)
}

// reflectHTTP fetches a page whose body is the asker's address.
func (x *exam) reflectHTTP(ctx context.Context, f face, address string) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	req.Header.Set("User-Agent", "mailout")
	req.Header.Set("Accept", "text/plain")
	transport, err := x.reflectorTransport(ctx, f)
	if err != nil {
		return netip.Addr{}, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return netip.Addr{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReflection))
	if err != nil {
		return netip.Addr{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return netip.Addr{}, fmt.Errorf("answered %s", resp.Status)
	}
	if a, ok := addressIn(string(body)); ok {
		return a, nil
	}
	return netip.Addr{}, errSaysNothing
}

// reflectorTransport connects from the face, never through a proxy: a proxy's
// address is not ours.
func (x *exam) reflectorTransport(ctx context.Context, f face) (*http.Transport, error) {
	roots, err := x.id.roots()
	if err != nil {
		return nil, err
	}
	return briefTransport(ctx, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, func(address string) (net.Conn, error) {
		host, port := splitServer(address, 80)
		to, err := x.resolve(ctx, host, f.V6)
		if err != nil {
			return nil, err
		}
		return x.connect(ctx, f.caller(), netip.AddrPortFrom(to, port))
	}), nil
}

// maxHeader bounds an HTTP server's header in octets.
const maxHeader = 16 << 10

// briefTransport is for requests to strangers within ctx, whose end closes
// their connections: net/http itself would go on with a handshake after the
// request was given up.
func briefTransport(ctx context.Context, conf *tls.Config, dial func(address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader, TLSClientConfig: conf,
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			conn, err := dial(address)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	}
}

// roots are the system's and those configured; nil: the system's alone.
func (id *Identity) roots() (*x509.CertPool, error) {
	if id.TrustedCA == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pem, err := os.ReadFile(id.TrustedCA)
	if err != nil {
		return nil, err
	}
	pool.AppendCertsFromPEM(pem)
	return pool, nil
}

// addressIn finds the one address in a short text: alone, in quotes, or among
// words as in "Current IP Address: 203.0.113.5".
func addressIn(text string) (netip.Addr, bool) {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F' || r == ':' || r == '.')
	})
	for _, w := range words {
		a, err := netip.ParseAddr(strings.TrimRight(w, "."))
		if err == nil && !a.IsUnspecified() {
			return a.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
