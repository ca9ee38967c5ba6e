package dns

import (
	"bufio"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailout/internal/mta"
)

const (
	maxHostNames = 100_000
	// hostsTTL is how long an answer from the hosts file (or about localhost)
	// says it is good for.
	hostsTTL = 10 * time.Second
)

// hostsFile maps names to addresses before any server is asked. It is used for
// A and AAAA only; a name that stands in it is never asked for in DNS, so that
// one with an IPv4 line only has no AAAA.
type hostsFile struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		file  watched
		names map[string][]netip.Addr // keys with the final dot
	}
}

func newHostsFile(path string, log *slog.Logger) *hostsFile {
	h := &hostsFile{log: log}
	h.mu.file = watched{path: path, log: log}
	return h
}

// lookup gives the addresses of a name (lower case, final dot); none when the
// file does not name it.
func (h *hostsFile) lookup(name string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.file.changed(func(r io.Reader) error {
		names, cut, err := parseHosts(r)
		if err != nil {
			return err
		}
		if cut {
			h.log.Warn("the hosts file has too many names; the rest is not used", mta.KeyPath, h.mu.file.path, mta.KeyCount, maxHostNames)
		}
		h.mu.names = names
		return nil
	})
	return h.mu.names[name]
}

// HostsAddresses gives the addresses that a hosts file has for a name; none when
// it does not name it or cannot be read.
func HostsAddresses(path, name string) []netip.Addr {
	full, ok := fqdn(name)
	if !ok || path == "" {
		return nil
	}
	return newHostsFile(path, slog.New(slog.DiscardHandler)).lookup(full)
}

// parseHosts reads hosts(5): an address and its names a line, "#" begins a
// comment. Lines without an address and names that cannot be are passed over.
func parseHosts(r io.Reader) (names map[string][]netip.Addr, cut bool, err error) {
	names = make(map[string][]netip.Addr)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		addr = addr.Unmap()
		for _, f := range fields[1:] {
			name, ok := fqdn(f)
			if !ok {
				continue
			}
			if names[name] == nil && len(names) == maxHostNames {
				return names, true, nil
			}
			if len(names[name]) < MaxRecords && !slices.Contains(names[name], addr) {
				names[name] = append(names[name], addr)
			}
		}
	}
	return names, false, lines.Err()
}
