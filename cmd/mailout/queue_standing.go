package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"mailout/internal/admin"
)

// standingPath is the API's.
const standingPath = "/v1/standing"

type queueStandingCmd struct {
	Site  string `arg:"" optional:"" help:"Only this site, as \"queue list\" names it."`
	Clear bool   `help:"Forget what was learnt of the site: its mail is planned anew."`
	All   bool   `help:"With --clear: of every site."`
	JSON  bool   `name:"json" help:"One JSON object a line; with --clear, one object."`
}

// Run lists how we stand with receivers, or clears it.
func (c *queueStandingCmd) Run(g *globals) error {
	if c.Clear {
		return c.clear(g)
	}
	if c.All {
		return fail(exitUsage, "--all is for --clear; without it every site is listed")
	}
	body, err := ask(g, standingPath, c.query())
	if err != nil {
		return err
	}
	defer body.Close()
	var list admin.StandingList
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	if c.JSON {
		out := json.NewEncoder(g.Stdout)
		for _, e := range list.Entries {
			if err := out.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list.Entries) == 0 {
		fmt.Fprintln(g.Stdout, "nothing was learnt from replies that holds now")
	}
	for _, e := range list.Entries {
		fmt.Fprintln(g.Stdout, standingWords(&e))
	}
	return nil
}

// standingWords says an entry in a line.
func standingWords(e *admin.StandingEntry) string {
	where := e.Site
	if e.Source != "" {
		where += " from " + e.Source
	}
	switch e.Kind {
	case "fallback":
		return fmt.Sprintf("%s: the router stands in since %s, direct delivery is tried again at %s: %s", where, e.Since, e.Until, e.Why)
	case "slowed":
		return fmt.Sprintf("%s: slowed to %.0f %%: %s", where, e.Factor*100, e.Why)
	}
	return fmt.Sprintf("%s: %s until %s: %s", where, e.Kind, e.Until, e.Why)
}

func (c *queueStandingCmd) query() url.Values {
	q := url.Values{}
	if c.Site != "" {
		q.Set("site", c.Site)
	}
	return q
}

func (c *queueStandingCmd) clear(g *globals) error {
	if (c.Site == "") == !c.All {
		return fail(exitUsage, "name a site to clear, or --all")
	}
	q := c.query()
	if c.All {
		q.Set("all", "true")
	}
	d, err := connect(g)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodDelete, d.url(standingPath, q), nil)
	if err != nil {
		return err
	}
	body, err := d.do(req)
	if err != nil {
		return controlUsage(err)
	}
	defer body.Close()
	if c.JSON {
		return copyAnswer(g.Stdout, body)
	}
	var r admin.StandingCleared
	if err := json.NewDecoder(body).Decode(&r); err != nil {
		return fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	if r.Cleared == 0 {
		fmt.Fprintln(g.Stdout, "there was nothing to forget")
		return nil
	}
	fmt.Fprintf(g.Stdout, "%s forgotten\n", counted(int64(r.Cleared), "thing"))
	return nil
}
