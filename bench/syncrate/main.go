// Command syncrate measures how many records of 4 KB per second this disk
// makes durable when many writers share their syncs: the limit of every relay
// that stores before it says 250. It prints one number.
//
// Writers put a record each into the batch that gathers while the one before
// is being written and synced by a goroutine of its own, and wait for theirs.
// The goroutines end with the measurement.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	record     = 4096
	growingMax = 2 << 30   // then from the beginning again
	writtenMax = 128 << 20 // the same
)

// batch is what one write and sync make durable.
type batch struct {
	data []byte
	done chan struct{}
	err  error
}

// journal is the file that all writers share.
type journal struct {
	file   *os.File
	offset int64
	size   int64
	work   chan struct{} // of one: there is something to write; closed at the end
	mu     sync.Mutex
	next   *batch
}

func main() {
	dir := flag.String("dir", ".", "folder on the disk to measure")
	writers := flag.Int("writers", 20, "writers at once")
	kind := flag.String("file", "growing", "growing: a fresh file; written: one written before, as a recycled log is")
	last := flag.Duration("for", time.Second, "how long")
	flag.Parse()
	rate, err := measure(*dir, *writers, *kind == "written", *last)
	if err != nil {
		fmt.Fprintln(os.Stderr, "syncrate:", err)
		os.Exit(1)
	}
	fmt.Printf("%.0f\n", rate)
}

func measure(dir string, writers int, written bool, last time.Duration) (float64, error) {
	f, err := os.CreateTemp(dir, "syncrate-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if written {
		zeros := make([]byte, 1<<20)
		for off := int64(0); off < writtenMax; off += int64(len(zeros)) {
			if _, err := f.WriteAt(zeros, off); err != nil {
				return 0, err
			}
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	size := int64(growingMax)
	if written {
		size = writtenMax
	}
	j := &journal{file: f, size: size, work: make(chan struct{}, 1), next: newBatch()}
	go j.run()
	counts, errs := make([]int, writers), make([]error, writers)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range writers {
		wg.Go(func() {
			data := make([]byte, record)
			for time.Since(begin) < last && errs[w] == nil {
				errs[w] = j.put(data)
				counts[w]++
			}
		})
	}
	wg.Wait()
	close(j.work)
	took := time.Since(begin)
	sum := 0
	for w := range writers {
		if errs[w] != nil {
			return 0, errs[w]
		}
		sum += counts[w]
	}
	return float64(sum) / took.Seconds(), nil
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// put returns when data is on stable storage.
func (j *journal) put(data []byte) error {
	j.mu.Lock()
	b := j.next
	b.data = append(b.data, data...)
	j.mu.Unlock()
	select {
	case j.work <- struct{}{}:
	default: // known already
	}
	<-b.done
	return b.err
}

// run makes one batch after the other durable.
func (j *journal) run() {
	for range j.work {
		j.mu.Lock()
		b := j.next
		j.next = newBatch()
		j.mu.Unlock()
		if len(b.data) > 0 {
			b.err = j.write(b.data)
		}
		close(b.done)
	}
}

func (j *journal) write(data []byte) error {
	if j.offset+int64(len(data)) > j.size {
		j.offset = 0
	}
	n, err := j.file.WriteAt(data, j.offset)
	j.offset += int64(n)
	if err != nil {
		return err
	}
	return unix.Fdatasync(int(j.file.Fd()))
}
