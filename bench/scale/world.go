package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mtatest"
)

// world is DNS and receivers on one port: fast ones on addresses of their own,
// and a tar pit on every other loopback address.
type world struct {
	dns    *mtatest.DNS
	port   int
	listen net.Listener
	fast   map[string]*mtatest.MX // by address
	held   struct {
		sync.Mutex
		conns map[net.Conn]struct{}
	}
	most atomic.Int64 // most connections held at once
	wg   sync.WaitGroup
}

func newWorld() (*world, error) {
	w := &world{dns: mtatest.NewDNS(), fast: map[string]*mtatest.MX{}}
	w.held.conns = map[net.Conn]struct{}{}
	if err := w.dns.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	var err error
	if w.listen, err = net.Listen("tcp4", "0.0.0.0:0"); err != nil {
		w.dns.Stop()
		return nil, err
	}
	w.port = w.listen.Addr().(*net.TCPAddr).Port
	return w, nil
}

// start begins to take connections; all receivers have been added.
func (w *world) start() { w.wg.Go(w.accept) }

// receiver adds a receiver at ip for the domains.
func (w *world) receiver(ip, name string, cfg mtatest.MXConfig, domains ...string) (*mtatest.MX, error) {
	cfg.Hostname, cfg.Discard = name, true
	mx := mtatest.NewMX(cfg)
	w.fast[ip] = mx
	zone := fmt.Sprintf("%s. A %s\n", name, ip)
	for _, d := range domains {
		zone += fmt.Sprintf("%s. MX 10 %s.\n", d, name)
	}
	return mx, w.dns.Add(zone)
}

// tarpits gives n domains an address each at which nobody answers.
func (w *world) tarpits(n int) error {
	for i := range n {
		ip := netip.AddrFrom4([4]byte{127, 20, byte(i >> 8), byte(i)})
		if err := w.dns.Add(fmt.Sprintf("t%d.tar.example. MX 10 mx%d.tar.example.\nmx%d.tar.example. A %s\n", i, i, i, ip)); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) accept() {
	for {
		conn, err := w.listen.Accept()
		if err != nil {
			return
		}
		if mx := w.fast[conn.LocalAddr().(*net.TCPAddr).IP.String()]; mx != nil {
			w.wg.Go(func() { mx.ServeConn(conn) })
			continue
		}
		w.hold(conn)
	}
}

// hold keeps a connection and never answers.
func (w *world) hold(conn net.Conn) {
	w.held.Lock()
	defer w.held.Unlock()
	w.held.conns[conn] = struct{}{}
	w.most.Store(max(w.most.Load(), int64(len(w.held.conns))))
}

// stop ends everything.
func (w *world) stop() {
	w.listen.Close()
	for _, mx := range w.fast {
		mx.Stop()
	}
	w.held.Lock()
	for c := range w.held.conns {
		c.Close()
	}
	w.held.Unlock()
	w.dns.Stop()
	w.wg.Wait()
}

// rate is what a load did.
type rate struct {
	taken, delivered float64 // messages a second
	cpu              float64 // of the daemon, microseconds a delivered message
	first            error
}

// relay loads the SMTP door for a while with 20 sessions of 4 KB messages.
func (w *world) relay(ctx context.Context, d *daemon, mx *mtatest.MX, to string, length time.Duration) rate {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	load := mtatest.Load{Addr: d.smtp, Sessions: 20, Size: 4096, Reconnect: true, To: func(int) []string { return []string{to} }}
	before, cpu := mx.Stats().Messages, d.cpu()
	r := load.Run(ctx)
	delivered := float64(mx.Stats().Messages - before)
	return rate{
		taken: float64(len(r.Accepted)) / r.Elapsed.Seconds(), delivered: delivered / r.Elapsed.Seconds(),
		cpu: float64((d.cpu() - cpu).Microseconds()) / max(delivered, 1), first: r.First,
	}
}
