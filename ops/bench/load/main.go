// Command load puts a measured load on an S3 endpoint from one core.
//
// It owns requests, signing and timing, and speaks HTTP/1.1 on bare sockets, because net/http on one
// core is slower than the servers it should measure. Bodies, their digests and trailers are computed
// before the clock starts; a request costs one signature. It does not know which server answers.
//
//	load run    -op put|get|list|delete …   one workload, a JSON line with rates and latencies
//	load memory …                           many slow clients beside fast ones (memory.go)
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

type options struct {
	target
	op          string
	mode        string
	size        int
	concurrency int
	seconds     float64
	warm        float64
	count       int64
	keys        int64
	prefix      string
	suffix      string
	content     string
}

type result struct {
	Op          string   `json:"op"`
	Mode        string   `json:"mode"`
	Size        int      `json:"size"`
	Concurrency int      `json:"concurrency"`
	Operations  int64    `json:"operations"`
	Total       int64    `json:"total_operations"` // with those of the warm-up
	Errors      int64    `json:"errors"`
	FirstErrors []string `json:"first_errors,omitempty"`
	Seconds     float64  `json:"seconds"`
	PerSecond   float64  `json:"per_second"`
	BytesPerS   float64  `json:"bytes_per_second"`
	P50ms       float64  `json:"p50_ms"`
	P99ms       float64  `json:"p99_ms"`
	MaxMs       float64  `json:"max_ms"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: load run|memory …")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "run":
		err = runCommand(os.Args[2:])
	case "memory":
		err = memoryCommand(os.Args[2:])
	default:
		err = fmt.Errorf("no such command: %s", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func (t *target) flags(f *flag.FlagSet) {
	f.StringVar(&t.address, "address", "127.0.0.1:9000", "host:port")
	f.StringVar(&t.access, "access", "", "access key; empty is anonymous")
	f.StringVar(&t.secret, "secret", "", "secret key")
	f.StringVar(&t.region, "region", "us-east-1", "region")
	f.StringVar(&t.bucket, "bucket", "bench", "bucket, made beforehand; empty for a plain file server")
}

func runCommand(arguments []string) error {
	var o options
	f := flag.NewFlagSet("run", flag.ExitOnError)
	o.target.flags(f)
	f.StringVar(&o.op, "op", "put", "put, get, list or delete")
	f.StringVar(&o.mode, "mode", "signed", "signed, unsigned, presigned, trailer or anonymous")
	f.IntVar(&o.size, "size", 4096, "bytes an object")
	f.IntVar(&o.concurrency, "concurrency", 16, "connections")
	f.Float64Var(&o.seconds, "seconds", 10, "how long to measure")
	f.Float64Var(&o.warm, "warm", 1, "seconds before that which are not counted")
	f.Int64Var(&o.count, "count", 0, "stop after so many operations, instead of a time")
	f.Int64Var(&o.keys, "keys", 1000, "get, list: objects that are there, named PREFIX00000000 and on")
	f.StringVar(&o.prefix, "prefix", "k/", "prefix of the keys")
	f.StringVar(&o.suffix, "suffix", "", "what follows the number in a key")
	f.StringVar(&o.content, "content", "", "what every object has, instead of random bytes")
	f.Parse(arguments)
	r, err := run(o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// run drives `concurrency` connections, each with one request under way, until time or count is up.
func run(o options) (*result, error) {
	var content []byte
	if o.content != "" {
		content = []byte(o.content)
		o.size = len(content)
	}
	bodies := bodiesOf(content, o.size, o.mode, o.op)
	var next, errors, total atomic.Int64
	var mutex sync.Mutex
	var first []string
	latencies := make([][]float64, o.concurrency)
	start := time.Now()
	counted := start.Add(time.Duration(o.warm * float64(time.Second)))
	if o.count > 0 {
		counted = start
	}
	deadline := counted.Add(time.Duration(o.seconds * float64(time.Second)))
	var group sync.WaitGroup
	ends := make([]time.Time, o.concurrency)
	for w := range o.concurrency {
		group.Add(1)
		go func() {
			defer group.Done()
			c := newConnection(o.target)
			defer c.close()
			random := rand.New(rand.NewSource(int64(w) + 1))
			for {
				begun := time.Now()
				number := next.Add(1) - 1
				if o.count > 0 && number >= o.count || o.count == 0 && begun.After(deadline) {
					return
				}
				err := one(c, &o, bodies, number, random)
				end := time.Now()
				if err != nil {
					errors.Add(1)
					mutex.Lock()
					if len(first) < 5 {
						first = append(first, err.Error())
					}
					mutex.Unlock()
					c.close()
					if errors.Load() > 1000 {
						return
					}
					continue
				}
				total.Add(1)
				if begun.After(counted) {
					latencies[w] = append(latencies[w], end.Sub(begun).Seconds()*1000)
					ends[w] = end
				}
			}
		}()
	}
	group.Wait()
	var all []float64
	last := counted
	for w := range latencies {
		all = append(all, latencies[w]...)
		if ends[w].After(last) {
			last = ends[w]
		}
	}
	sort.Float64s(all)
	r := &result{Op: o.op, Mode: o.mode, Size: o.size, Concurrency: o.concurrency, Operations: int64(len(all)), Total: total.Load(),
		Errors: errors.Load(), FirstErrors: first, Seconds: last.Sub(counted).Seconds()}
	if len(all) > 0 {
		r.PerSecond = float64(len(all)) / r.Seconds
		r.BytesPerS = r.PerSecond * float64(o.size)
		r.P50ms, r.P99ms, r.MaxMs = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	return r, nil
}

// one sends one request and checks its answer.
func one(c *connection, o *options, bodies []body, number int64, random *rand.Rand) error {
	switch o.op {
	case "put":
		b := &bodies[number%int64(len(bodies))]
		return c.expect("PUT", key(o, number), "", b, o.mode, 200, nil)
	case "get":
		chosen := random.Int63n(o.keys)
		b := &bodies[chosen%int64(len(bodies))]
		return c.expect("GET", key(o, chosen), "", nil, o.mode, 200, b)
	case "list":
		after := int64(0)
		if o.keys > 1001 {
			after = random.Int63n(o.keys - 1001)
		}
		query := fmt.Sprintf("list-type=2&max-keys=1000&prefix=%s&start-after=%s", escape(o.prefix), escape(key(o, after)[1:]))
		return c.list(query, o.mode)
	case "delete":
		return c.expect("DELETE", key(o, number), "", nil, o.mode, 204, nil)
	}
	return fmt.Errorf("no such operation: %s", o.op)
}

func key(o *options, number int64) string {
	return fmt.Sprintf("/%s%08d%s", o.prefix, number, o.suffix)
}
