package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestLoadOfTenThousandSites: all count, and only the busiest are told.
func TestLoadOfTenThousandSites(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.opts.Limits.Connections = 100
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), time.Hour }
		w.up()
		const sites = 10_000
		list := make([]*mta.Delivery, 0, sites+2)
		for i := range sites {
			list = append(list, w.make(mta.DefaultStream, fmt.Sprintf("a@d%d.example", i)))
		}
		list = append(list, w.make(mta.DefaultStream, "b@d77.example"), w.make(mta.DefaultStream, "c@d77.example"))
		w.submit(list...)
		w.wait(time.Second)
		load, err := w.q.Load(context.Background(), 20)
		if err != nil || load.Connections+load.Ready != sites+2 || load.Connections < 90 || load.Connections > 100 || load.Idle != 0 || load.Unreachable != 0 {
			t.Errorf("%+v, %v", load, err)
		}
		if len(load.Busiest) != 20 || load.Busiest[0].Site != "d77.example" || load.Busiest[0].work() != 3 || load.Busiest[0].Allowed < 1 {
			t.Errorf("%+v", load.Busiest)
		}
		if !slices.IsSortedFunc(load.Busiest, busier) {
			t.Errorf("%+v", load.Busiest)
		}
	})
}

func TestAmongMost(t *testing.T) {
	t.Parallel()
	for n := range 5 {
		var all, most []SiteLoad
		for i := range 100 {
			one := SiteLoad{Site: fmt.Sprint(i), Ready: rand.IntN(20)}
			all, most = append(all, one), amongMost(most, one, n)
		}
		slices.SortFunc(all, busier)
		if !slices.Equal(most, all[:n]) {
			t.Errorf("%v, want %v", most, all[:n])
		}
	}
}
