package dns

import (
	"bufio"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mailout/internal/mta"
)

const (
	// SystemResolvers is the file that names the system's name servers.
	SystemResolvers = "/etc/resolv.conf"

	maxServers     = 16
	maxSystemFile  = 8 << 20 // octets read of resolv.conf or a hosts file
	checkFileEvery = time.Second
)

// watched is a file that is read again when its time or size changed, looked at
// no more than once a second.
type watched struct {
	path    string
	log     *slog.Logger
	checked time.Time
	mtime   time.Time
	size    int64
	failed  bool
}

// changed calls load with the file's content when it is new. A file that
// cannot be read keeps the last content and is reported once.
func (w *watched) changed(load func(io.Reader) error) {
	now := time.Now()
	if !w.checked.IsZero() && now.Sub(w.checked) < checkFileEvery {
		return
	}
	w.checked = now
	if err := w.reload(load); err != nil {
		if !w.failed {
			w.log.Warn("cannot read the file; its last content stays in use", mta.KeyPath, w.path, mta.KeyError, err)
		}
		w.failed = true
		return
	}
	w.failed = false
}

func (w *watched) reload(load func(io.Reader) error) error {
	info, err := os.Stat(w.path)
	if err != nil {
		return err
	}
	if !w.failed && info.ModTime().Equal(w.mtime) && info.Size() == w.size {
		return nil
	}
	f, err := os.Open(w.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := load(io.LimitReader(f, maxSystemFile)); err != nil {
		return err
	}
	w.mtime, w.size = info.ModTime(), info.Size()
	return nil
}

// systemServers follows resolv.conf. Only its nameserver lines count: search
// domains and options are for programs that want them.
type systemServers struct {
	mu struct {
		sync.Mutex
		file    watched
		servers []netip.AddrPort
		changed bool // since the last call of takeChange
	}
}

func newSystemServers(path string, log *slog.Logger) *systemServers {
	s := &systemServers{}
	s.mu.file = watched{path: path, log: log}
	return s
}

// get gives the servers of the file as it is now; those on this machine when it
// names none or was never readable, as the C library does.
func (s *systemServers) get() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.file.changed(func(r io.Reader) error {
		servers, err := parseResolvConf(r)
		if err == nil {
			s.mu.changed = s.mu.servers != nil && !slices.Equal(s.mu.servers, servers)
			s.mu.servers = servers
		}
		return err
	})
	if len(s.mu.servers) == 0 {
		return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	}
	return s.mu.servers
}

// SystemServers gives the system's name servers as they are now, in their order.
func SystemServers() []netip.AddrPort {
	return slices.Clone(newSystemServers(SystemResolvers, slog.New(slog.DiscardHandler)).get())
}

// takeChange reports, once, that the servers are others than before.
func (s *systemServers) takeChange() bool {
	s.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.mu.changed
	s.mu.changed = false
	return changed
}

// parseResolvConf reads the nameserver lines, at most 16 of them. Lines that it
// does not understand are passed over, as resolv.conf(5) has it.
func parseResolvConf(r io.Reader) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(servers) < maxServers {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	return servers, lines.Err()
}
