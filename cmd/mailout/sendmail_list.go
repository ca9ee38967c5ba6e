package main

import (
	"bufio"
	"encoding/json"
	"fmt"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/submit/drop"
)

// listMail is mailq: what waits, and what the daemon has not taken in yet.
func listMail(g *globals) error {
	waiting := 0
	if cfg, err := config.ForSender(config.Path(g.Config)); err == nil {
		waiting, _ = drop.Folder(cfg.Sendmail.Drop).Count() // not everybody may ask
	}
	if waiting > 0 {
		fmt.Fprintf(g.Stdout, "%s in the drop folder for the daemon to take in\n", counted(int64(waiting), "message"))
	}
	body, err := ask(g, "/v1/deliveries", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	out := bufio.NewWriter(g.Stdout)
	count := 0
	for line, err := range lines(body) {
		if err != nil {
			return fail(exitSoftware, "the daemon's answer broke off: %v", err)
		}
		var d admin.Delivery
		if err := json.Unmarshal(line, &d); err != nil {
			return fail(exitSoftware, "the daemon's answer is not understood: %v", err)
		}
		printDelivery(out, &d)
		count++
	}
	if count == 0 && waiting == 0 { // the words that scripts look for
		fmt.Fprintln(out, "Mail queue is empty")
	}
	return out.Flush()
}
