//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"mailout/internal/dns"
	"mailout/internal/doctor"
	"mailout/internal/mtatest"
)

// A home network of three network namespaces: a machine at 192.0.2.10, a
// router that hides it behind 198.51.100.1 (the kernel's own NAT), and the
// world, 198.51.100.0/24, with a name server, a caching resolver (unbound),
// two mail servers and a web page that tells the visitor's address.
const (
	insideAddr, visibleAddr = "192.0.2.10", "198.51.100.1"
	authorityAddr           = "198.51.100.53"
	cacheAddr               = "198.51.100.54"
	pageAddr                = "198.51.100.80"
	natName                 = "mailout.ofc.widget.test"
)

// home is the network, with what its servers and its wire have seen.
type home struct {
	t    *testing.T
	dir  string
	zone *mtatest.DNS
	mu   struct {
		sync.Mutex
		commands []string // that the mail servers heard
		packets  []string // "tcp 198.51.100.25:25", as they left the router
		sent     []string // what went to port 25, segment by segment
	}
}

// mustRun runs a program and wants it to succeed.
func mustRun(t *testing.T, input, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// newHome builds it; the test's end takes it down.
func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), zone: mtatest.NewDNS()}
	for _, ns := range []string{"inside", "nat", "outside"} {
		mustRun(t, "", "ip", "netns", "add", ns)
		t.Cleanup(func() { mustRun(t, "", "ip", "netns", "delete", ns) })
		mustRun(t, "", "ip", "-n", ns, "link", "set", "lo", "up")
	}
	for _, line := range []string{
		"link add in0 netns inside type veth peer name nat0 netns nat",
		"link add out0 netns outside type veth peer name nat1 netns nat",
		"-n inside address add " + insideAddr + "/24 dev in0", "-n inside link set in0 up",
		"-n nat address add 192.0.2.1/24 dev nat0", "-n nat link set nat0 up",
		"-n nat address add " + visibleAddr + "/24 dev nat1", "-n nat link set nat1 up",
		"-n outside link set out0 up", "-n inside route add default via 192.0.2.1",
	} {
		mustRun(t, "", "ip", strings.Fields(line)...)
	}
	for _, a := range []string{authorityAddr, cacheAddr, pageAddr, "198.51.100.25", "198.51.100.26"} {
		mustRun(t, "", "ip", "-n", "outside", "address", "add", a+"/24", "dev", "out0")
	}
	mustRun(t, "1", "ip", "netns", "exec", "nat", "tee", "/proc/sys/net/ipv4/ip_forward")
	nft := exec.Command("ip", "netns", "exec", "nat", "nft", "-f", "-")
	nft.Stdin = strings.NewReader("table ip nat {\n chain post {\n type nat hook postrouting priority 100;\n oifname \"nat1\" masquerade\n }\n}\n")
	if out, err := nft.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "not supported") || strings.Contains(string(out), "No such file or directory") {
			t.Skipf("this kernel has no NAT (nf_tables, nft_masq): %s", out)
		}
		t.Fatalf("nft: %v\n%s", err, out)
	}
	h.serve()
	return h
}

// in runs f with its thread in a namespace of the network.
func (h *home) in(ns string, f func() error) {
	h.t.Helper()
	within(h.t, ns, f)
}

// within runs f with its thread in a namespace: sockets that f opens stay there.
// The thread goes back: its end would be the end of every program that was
// started from it (mtatest.EndTogether).
func within(t *testing.T, ns string, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	err := enter("/proc/thread-self/ns/net", "/run/netns/"+ns, f)
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatalf("in %s: %v", ns, err)
	}
}

// enter runs f with the thread in one network namespace, and brings it home.
func enter(from, to string, f func() error) error {
	home, err := unix.Open(from, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	there, err := unix.Open(to, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		panic(back) // the thread would do its next work in the wrong network
	}
	return err
}

// serve starts the servers outside and the recorder at the router.
func (h *home) serve() {
	h.t.Helper()
	h.in("outside", func() error {
		if err := h.zone.Start(authorityAddr + ":53"); err != nil {
			return err
		}
		h.t.Cleanup(h.zone.Stop)
		for addr, name := range map[string]string{"198.51.100.25": "mx.example.net", "198.51.100.26": "mail.example.org"} {
			l, err := net.Listen("tcp", addr+":25")
			if err != nil {
				return err
			}
			h.t.Cleanup(func() { l.Close() })
			go h.mailServer(l, name)
		}
		l, err := net.Listen("tcp", pageAddr+":80")
		if err != nil {
			return err
		}
		page := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := strings.Cut(r.RemoteAddr, ":")
			fmt.Fprintln(w, host)
		})}
		h.t.Cleanup(func() { page.Close() })
		go page.Serve(l) //nolint:errcheck // ends by Close
		return nil
	})
	h.in("nat", h.record)
}

// mailServer greets whoever comes with the address that he comes from.
func (h *home) mailServer(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprintf(conn, "220 %s ESMTP\r\n", name)
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				h.mu.Lock()
				h.mu.commands = append(h.mu.commands, lines.Text())
				h.mu.Unlock()
				if strings.HasPrefix(lines.Text(), "QUIT") {
					fmt.Fprint(conn, "221 bye\r\n")
					return
				}
				fmt.Fprintf(conn, "250-%s Hello [%s]\r\n250-SIZE 1000000\r\n250-PIPELINING\r\n250 8BITMIME\r\n", name, conn.RemoteAddr().(*net.TCPAddr).IP)
			}
		}()
	}
}

// record keeps every IPv4 packet that leaves the router to the world.
func (h *home) record() error {
	const all = 0x0300 // ETH_P_ALL in network order
	link, err := net.InterfaceByName("nat1")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
		return err
	}
	wiretap := os.NewFile(uintptr(fd), "wiretap")
	h.t.Cleanup(func() { wiretap.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := wiretap.Read(buf)
			if err != nil {
				return
			}
			h.keep(buf[:n])
		}
	}()
	return nil
}

// keep notes where a packet from the visible address goes, and what it says to
// a mail server (RFC 791 3.1, RFC 9293 3.1).
func (h *home) keep(p []byte) {
	if len(p) < 20 || p[0]>>4 != 4 || netip.AddrFrom4([4]byte(p[12:16])).String() != visibleAddr {
		return
	}
	rest := p[int(p[0]&15)*4:]
	if len(rest) < 20 && p[9] == unix.IPPROTO_TCP || len(rest) < 8 {
		return
	}
	port := int(rest[2])<<8 | int(rest[3])
	to := net.JoinHostPort(netip.AddrFrom4([4]byte(p[16:20])).String(), strconv.Itoa(port))
	h.mu.Lock()
	defer h.mu.Unlock()
	switch p[9] {
	case unix.IPPROTO_TCP:
		h.mu.packets = append(h.mu.packets, "tcp "+to)
		if payload := rest[int(rest[12]>>4)*4:]; port == 25 && len(payload) > 0 {
			h.mu.sent = append(h.mu.sent, string(payload))
		}
	case unix.IPPROTO_UDP:
		h.mu.packets = append(h.mu.packets, "udp "+to)
	default:
		h.mu.packets = append(h.mu.packets, fmt.Sprintf("protocol %d %s", p[9], to))
	}
}

// cache starts unbound as the resolver of the home; the function ends it, and
// with it what it remembers. zones are more of its configuration.
func (h *home) cache(zones ...string) (stop func()) {
	h.t.Helper()
	file := filepath.Join(h.dir, "unbound.conf")
	text := `server:
 interface: ` + cacheAddr + `
 access-control: 0.0.0.0/0 allow
 module-config: "iterator"
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 directory: "` + h.dir + `"
 local-zone: "100.51.198.in-addr.arpa." nodefault
 local-zone: "test." nodefault
remote-control:
 control-enable: no
forward-zone:
 name: "."
 forward-addr: ` + authorityAddr + "\n" + strings.Join(zones, "")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", "outside", "unbound", "-d", "-c", file)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()
	})
	h.t.Cleanup(stop)
	h.await()
	return stop
}

// await asks the resolver until it answers.
func (h *home) await() {
	h.t.Helper()
	h.in("inside", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		probe := dns.Probe{Server: netip.MustParseAddrPort(cacheAddr + ":53"), Name: "ready.test", Type: wire.TypeA, Timeout: time.Second}
		for {
			_, err := dns.Ask(ctx, nil, probe)
			if err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("unbound does not answer: %w", err)
			case <-tick.C:
			}
		}
	})
}

// examine runs `mailout doctor` on the machine inside.
func (h *home) examine(only ...string) (*doctor.Report, int) {
	h.t.Helper()
	file := filepath.Join(h.dir, "mailout.toml")
	text := fmt.Sprintf("hostname = %q\nspool = %q\npostmaster = \"postmaster@widget.test\"\n[dns]\nservers = [%q]\nhosts_file = \"\"\n"+
		"[identity]\nprobes = [\"198.51.100.25\", \"198.51.100.26\"]\nreflectors = [\"http://%s/\"]\nblocklists = []\nexternal_names = [\"example.test\"]\nbogus_name = \"\"\n",
		natName, filepath.Join(h.dir, "spool"), cacheAddr, pageAddr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	args := []string{"netns", "exec", "inside", os.Getenv("LAB_MAILOUT"), "doctor", "--json", "--config", file}
	for _, id := range only {
		args = append(args, "--only", id)
	}
	cmd := exec.Command("ip", args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	var r doctor.Report
	if err := json.Unmarshal(out, &r); err != nil {
		h.t.Fatalf("doctor: %v\n%s\n%s", err, out, errs.String())
	}
	return &r, cmd.ProcessState.ExitCode()
}

// finding gives the one check of an id.
func finding(t *testing.T, r *doctor.Report, id string) doctor.Check {
	t.Helper()
	var hits []doctor.Check
	for _, c := range r.Checks {
		if c.ID == id {
			hits = append(hits, c)
		}
	}
	if len(hits) != 1 {
		t.Fatalf("%d checks %s in %+v", len(hits), id, r.Checks)
	}
	return hits[0]
}

// TestDoctorBehindNAT goes the way of an operator who publishes the address of
// his interface, as everybody does first.
func TestDoctorBehindNAT(t *testing.T) {
	needLab(t)
	h := newHome(t)
	h.publish(insideAddr)
	if err := h.zone.Add("widget.test. 3600 IN SOA ns.widget.test. hostmaster.widget.test. 1 7200 3600 604800 300\n" +
		"widget.test. 3600 IN NS ns.widget.test.\nns.widget.test. 3600 IN A " + authorityAddr + "\n" +
		"1.100.51.198.in-addr.arpa. 300 IN PTR " + natName + ".\nexample.test. 300 IN A 198.51.100.200"); err != nil {
		t.Fatal(err)
	}
	stop := h.cache()
	ids := []string{"address", "ptr"}

	r, exit := h.examine(ids...)
	public := finding(t, r, "address.public")
	if public.Status != doctor.Pass || public.Subject != visibleAddr || !strings.Contains(public.Seen, "behind NAT, the interface has "+insideAddr) ||
		!strings.Contains(public.Seen, "198.51.100.25 said, 198.51.100.26 said, http://"+pageAddr) {
		t.Errorf("address.public: %+v", public)
	}
	for _, id := range []string{"address.record", "address.authoritative"} {
		if c := finding(t, r, id); c.Status != doctor.Fail || c.Fix == nil || c.Fix.Record != natName+". IN A "+visibleAddr {
			t.Errorf("%s: %+v", id, c)
		}
	}
	if exit != 2 {
		t.Errorf("exit status %d", exit)
	}

	h.publish(visibleAddr)
	r, exit = h.examine(ids...)
	held := regexp.MustCompile(`^(192\.0\.2\.10; )?published, caches still hold the old one \(192\.0\.2\.10\) for (\d+) s$`)
	for _, id := range []string{"address.record", "address.authoritative"} {
		c := finding(t, r, id)
		m := held.FindStringSubmatch(c.Seen)
		if c.Status != doctor.Warn || m == nil {
			t.Errorf("%s: %+v", id, c)
			continue
		}
		if n, err := strconv.Atoi(m[2]); err != nil || n < 1 || n > 300 {
			t.Errorf("%s: %s", id, c.Seen)
		}
	}
	if exit != 1 {
		t.Errorf("exit status %d", exit)
	}

	stop()
	h.cache()
	if r, exit = h.examine(ids...); exit != 0 {
		t.Errorf("exit status %d: %+v", exit, r.Checks)
	}
}

// publish replaces the address record.
func (h *home) publish(addr string) {
	h.t.Helper()
	h.zone.Remove(natName, wire.TypeA)
	if err := h.zone.Add(natName + ". 300 IN A " + addr); err != nil {
		h.t.Fatal(err)
	}
}

// TestDoctorSendsNoMail: with all checks, every packet that leaves for the
// world is for a server named in the configuration or its DNS, and mail
// servers hear EHLO, STARTTLS and QUIT.
func TestDoctorSendsNoMail(t *testing.T) {
	needLab(t)
	h := newHome(t)
	h.publish(visibleAddr)
	h.cache()
	r, _ := h.examine()
	if c := finding(t, r, "port25"); c.Status != doctor.Pass {
		t.Errorf("port25: %+v", c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.mu.commands) != 4 {
		t.Errorf("the mail servers heard %q", h.mu.commands)
	}
	harmless := regexp.MustCompile(`^((EHLO ` + regexp.QuoteMeta(natName) + `|STARTTLS|QUIT)\r\n)+$`)
	for _, segment := range h.mu.sent {
		if !harmless.MatchString(segment) {
			t.Errorf("sent to port 25: %q", segment)
		}
	}
	if len(h.mu.sent) == 0 {
		t.Error("the recorder has seen nothing go to port 25")
	}
	known := map[string]bool{"udp " + cacheAddr + ":53": true, "tcp " + cacheAddr + ":53": true, "udp " + authorityAddr + ":53": true, "tcp " + authorityAddr + ":53": true,
		"tcp 198.51.100.25:25": true, "tcp 198.51.100.26:25": true, "tcp " + pageAddr + ":80": true}
	for _, p := range h.mu.packets {
		if !known[p] {
			t.Errorf("a packet left for %s", p)
		}
	}
}
