package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/config"
	"mailout/internal/dnsupdate"
	"mailout/internal/doctor"
)

// fakeZone publishes in memory: values by name and type.
type fakeZone struct {
	records map[string][]string
	refuse  error // of Apply
	down    error // of Plan
	applied int
}

func (z *fakeZone) Plan(_ context.Context, changes []dnsupdate.Change) (p dnsupdate.Plan, err error) {
	for _, c := range changes {
		if !strings.HasSuffix(c.Name, ".widget.com") {
			p.ByHand = append(p.ByHand, dnsupdate.ByHand{Change: c, Why: "it is not in the zone widget.com"})
			continue
		}
		e := dnsupdate.Edit{Zone: "widget.com.", Name: c.Name + ".", Type: c.Type, Old: z.records[c.Name+" "+c.Type], New: c.Add}
		if !c.Only {
			return p, errors.New("another's address would stay")
		}
		if !slices.Equal(e.Old, e.New) {
			p.Edits = append(p.Edits, e)
		}
	}
	return p, z.down
}

func (z *fakeZone) Apply(_ context.Context, edits []dnsupdate.Edit) error {
	z.applied++
	if z.refuse != nil {
		return z.refuse
	}
	for _, e := range edits {
		z.records[strings.TrimSuffix(e.Name, ".")+" "+e.Type] = e.New
	}
	return nil
}

func (z *fakeZone) ReadBack(_ context.Context, edits []dnsupdate.Edit) []dnsupdate.Seen {
	return []dnsupdate.Seen{{Zone: "widget.com", Server: "ns1", Agrees: true}, {Zone: "widget.com", Server: "ns2", Said: fmt.Sprint("it waits for ", len(edits))}}
}

// keeping runs a keeper in virtual time.
type keeping struct {
	*keeper
	zone   *fakeZone
	config *config.Config
	log    *bytes.Buffer
	words  []string
}

const keptHost = "mailout.ofc.widget.com"

func newKept(t *testing.T) *keeping {
	t.Helper()
	k := &keeping{zone: &fakeZone{records: map[string][]string{keptHost + " A": {"198.51.100.1"}}}, config: &config.Config{}, log: new(bytes.Buffer)}
	k.config.Identity.DNSUpdate = config.DNSUpdate{Server: "ns1", KeepAddress: true, MinInterval: 5 * time.Minute}
	k.keeper = newKeeper(k.config, slog.New(slog.NewTextHandler(k.log, nil)), func(*config.Config) (publishing, error) { return k.zone, nil }, func(words []string) { k.words = append(k.words, words...) })
	k.Start()
	t.Cleanup(k.Stop)
	return k
}

// sees tells of an examination that found an address, and waits for what is
// done.
func (k *keeping) sees(addr, why string) {
	n := doctor.Agreed{Hostname: "Mailout.ofc.widget.com", Why: why}
	if why == "" {
		n.Addrs = []netip.Addr{netip.MustParseAddr(addr)}
	}
	k.Examined(&doctor.Examined{Names: []doctor.Agreed{n}})
	synctest.Wait()
}

func (k *keeping) record() string { return strings.Join(k.zone.records[keptHost+" A"], " ") }

func TestAddressRecordFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.sees("198.51.100.1", "")
		if k.zone.applied != 0 {
			t.Error("a right record was changed")
		}
		k.sees("198.51.100.7", "")
		if k.record() != "198.51.100.7" || len(k.words) != 1 || k.words[0] != "published mailout.ofc.widget.com A 198.51.100.7 in place of 198.51.100.1" {
			t.Errorf("%s, told %q", k.record(), k.words)
		}
		for _, part := range []string{"was=198.51.100.1 now=198.51.100.7", "server=ns2 reason=\"it waits for 1\""} {
			if !strings.Contains(k.log.String(), part) {
				t.Errorf("%q is not in %s", part, k.log)
			}
		}
	})
}

func TestAddressRecordKeepsTheLeastInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.sees("198.51.100.7", "")
		time.Sleep(5*time.Minute - time.Second)
		k.sees("198.51.100.8", "")
		if k.record() != "198.51.100.7" {
			t.Errorf("%s within min_interval", k.record())
		}
		time.Sleep(time.Second)
		k.sees("198.51.100.8", "")
		if k.record() != "198.51.100.8" {
			t.Errorf("%s after min_interval", k.record())
		}
	})
}

func TestAddressRecordStaysWhenNothingIsCertain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		for range 3 {
			k.sees("", "only one says that it is 203.0.113.66")
		}
		if k.record() != "198.51.100.1" || strings.Count(k.log.String(), "only one says") != 1 {
			t.Errorf("%s\n%s", k.record(), k.log)
		}
		k.sees("198.51.100.1", "")
		k.sees("", "only one says that it is 203.0.113.66")
		if strings.Count(k.log.String(), "only one says") != 2 {
			t.Errorf("a doubt that came again is not told:\n%s", k.log)
		}
		k.Examined(&doctor.Examined{}) // nobody looked
		synctest.Wait()
	})
}

func TestAddressRecordIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.zone.refuse = errors.New("REFUSED")
		k.sees("198.51.100.7", "")
		k.sees("198.51.100.7", "")
		if k.zone.applied != 1 || strings.Count(k.log.String(), "REFUSED") != 1 {
			t.Errorf("%d updates\n%s", k.zone.applied, k.log)
		}
		time.Sleep(5 * time.Minute)
		k.zone.refuse = nil
		k.sees("198.51.100.7", "")
		if k.record() != "198.51.100.7" {
			t.Error(k.record())
		}
		time.Sleep(5 * time.Minute)
		k.zone.down = errors.New("ns1 gave no answer")
		k.sees("198.51.100.7", "")
		k.sees("198.51.100.7", "")
		if strings.Count(k.log.String(), "gave no answer") != 1 {
			t.Error(k.log)
		}
	})
}

func TestAddressRecordOnlyWhenTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		off := *k.config
		off.Identity.DNSUpdate.KeepAddress = false
		k.Configure(&off)
		k.sees("198.51.100.7", "")
		if k.zone.applied != 0 {
			t.Error("a record was changed without keep_address")
		}
		k.Configure(k.config)
		synctest.Wait()
		if k.record() != "198.51.100.7" {
			t.Error("what was seen last is not acted on when keep_address is set")
		}
		k.Examined(&doctor.Examined{Names: []doctor.Agreed{
			{Hostname: "other.example", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}},
			{Hostname: keptHost, V6: true, Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}},
		}})
		synctest.Wait()
		if got := strings.Join(k.zone.records[keptHost+" AAAA"], " "); got != "2001:db8::1 2001:db8::2" || k.record() != "198.51.100.7" {
			t.Errorf("%s, %s", got, k.record())
		}
		if strings.Count(k.log.String(), "not in the zone") != 1 {
			t.Error(k.log)
		}
	})
}
