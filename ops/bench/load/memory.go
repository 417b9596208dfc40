package main

// Many clients that send or read one byte a second, beside a few at full speed.
//
// It owns the count: a slow client that the server drops is counted and comes back, so the pressure
// stays. It reads the server's resident size from /proc all the time and prints the peak. A 503 is
// what an overloaded server should say; the fast clients wait and try again, as every SDK does.

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type memoryReport struct {
	SlowWanted    int            `json:"slow_wanted"`
	SlowPeak      int64          `json:"slow_open_peak"`
	SlowAtEnd     int64          `json:"slow_open_at_end"`
	SlowDropped   int64          `json:"slow_dropped"`
	SlowStatuses  map[string]int `json:"slow_answers"`
	FastUploads   int64          `json:"fast_uploads"`
	FastDownloads int64          `json:"fast_downloads"`
	FastRetries   int64          `json:"fast_retries"`
	FastFailed    int64          `json:"fast_failed"`
	FirstErrors   []string       `json:"first_errors,omitempty"`
	FastSeconds   float64        `json:"fast_seconds"`
	RssStart      int64          `json:"rss_start_bytes"`
	RssSlowOnly   int64          `json:"rss_slow_only_bytes"`
	RssPeak       int64          `json:"rss_peak_bytes"`
}

func resident(pids []string) int64 {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/statm")
		if err != nil {
			continue
		}
		pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
		sum += pages * int64(os.Getpagesize())
	}
	return sum
}

func memoryCommand(arguments []string) error {
	var t target
	f := flag.NewFlagSet("memory", flag.ExitOnError)
	t.flags(f)
	slow := f.Int("slow", 10_000, "clients that send or read a byte a second, half each")
	fast := f.Int("fast", 64, "uploads and as many downloads at full speed")
	size := f.Int("size", 64<<20, "bytes of a fast object")
	kind := f.String("kind", "both", "what the slow ones do: send, read or both")
	hold := f.Float64("hold", 15, "seconds that the slow ones are alone")
	limit := f.Float64("limit", 600, "seconds that the fast ones may take")
	pids := f.String("pids", "", "processes of the server, by comma")
	f.Parse(arguments)
	processes := strings.Split(*pids, ",")

	bodies := makeBodies(*size, "unsigned", "put")
	first := newConnection(t)
	for n := range bodies {
		if err := first.expect("PUT", fmt.Sprintf("/big/%08d", n), "", &bodies[n], "unsigned", 200, nil); err != nil {
			return err
		}
	}
	first.close()

	r := memoryReport{SlowWanted: *slow, SlowStatuses: map[string]int{}, RssStart: resident(processes)}
	var open, peak, dropped, rss atomic.Int64
	var mutex sync.Mutex
	stop := make(chan struct{})
	note := func(what string) {
		mutex.Lock()
		r.SlowStatuses[what]++
		mutex.Unlock()
	}
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				rss.Store(max(rss.Load(), resident(processes)))
				peak.Store(max(peak.Load(), open.Load()))
			}
		}
	}()
	for n := range *slow {
		group.Add(1)
		go func() {
			defer group.Done()
			// Spread over ten seconds, or the accept queue is what is tested.
			wait := time.Duration(n) * 10 * time.Second / time.Duration(*slow)
			for {
				select {
				case <-stop:
					return
				case <-time.After(wait):
				}
				wait = time.Second
				open.Add(1)
				why := slowClient(t, n, *kind == "send" || *kind == "both" && n%2 == 0, stop)
				open.Add(-1)
				if why == "" {
					return
				}
				dropped.Add(1)
				note(why)
			}
		}()
	}
	time.Sleep(10*time.Second + time.Duration(*hold*float64(time.Second)))
	r.RssSlowOnly = rss.Load()
	fmt.Fprintf(os.Stderr, "%d slow clients open, %d MiB resident at most; now %d uploads and %d downloads\n",
		open.Load(), rss.Load()>>20, *fast, *fast)

	var retries, failed, up, down atomic.Int64
	begun := time.Now()
	deadline := begun.Add(time.Duration(*limit * float64(time.Second)))
	var fastGroup sync.WaitGroup
	for n := range *fast * 2 {
		fastGroup.Add(1)
		go func() {
			defer fastGroup.Done()
			c := newConnection(t)
			defer c.close()
			b := &bodies[n/2%len(bodies)]
			for {
				var err error
				if n%2 == 0 {
					err = c.expect("PUT", fmt.Sprintf("/fast/%08d", n), "", b, "unsigned", 200, nil)
				} else {
					err = c.expect("GET", fmt.Sprintf("/big/%08d", n/2%len(bodies)), "", nil, "unsigned", 200, b)
				}
				if err == nil {
					break
				}
				c.close()
				mutex.Lock()
				if len(r.FirstErrors) < 5 {
					r.FirstErrors = append(r.FirstErrors, err.Error())
				}
				mutex.Unlock()
				if time.Now().After(deadline) {
					failed.Add(1)
					return
				}
				retries.Add(1)
				time.Sleep(200 * time.Millisecond)
			}
			if n%2 == 0 {
				up.Add(1)
			} else {
				down.Add(1)
			}
		}()
	}
	finished := make(chan struct{})
	go func() { fastGroup.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(time.Until(deadline) + 5*time.Second):
		failed.Store(int64(*fast*2) - up.Load() - down.Load())
	}
	r.FastSeconds = time.Since(begun).Seconds()
	r.SlowAtEnd = open.Load()
	close(stop)
	group.Wait()
	r.SlowPeak, r.SlowDropped, r.RssPeak = peak.Load(), dropped.Load(), rss.Load()
	r.FastUploads, r.FastDownloads, r.FastRetries, r.FastFailed = up.Load(), down.Load(), retries.Load(), failed.Load()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// slowClient sends or reads one byte a second until stopped, and says how it ended when the server
// ended it.
func slowClient(t target, number int, sends bool, stop <-chan struct{}) string {
	socket, err := net.DialTimeout("tcp", t.address, 10*time.Second)
	if err != nil {
		return "not connected"
	}
	defer socket.Close()
	c := newConnection(t)
	c.scratch = nil
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	one := make([]byte, 1)
	if sends {
		socket.Write(c.head("PUT", fmt.Sprintf("/slow/%08d", number), "", &body{wire: make([]byte, 1<<20), payload: unsigned}, "unsigned"))
	} else {
		socket.(*net.TCPConn).SetReadBuffer(4096)
		socket.Write(c.head("GET", fmt.Sprintf("/big/%08d", number%4), "", nil, "unsigned"))
	}
	var line []byte
	for {
		select {
		case <-stop:
			return ""
		case <-tick.C:
		}
		if sends {
			socket.SetReadDeadline(time.Now().Add(time.Millisecond))
			buffer := make([]byte, 64)
			if n, err := socket.Read(buffer); n > 0 {
				return statusOf(buffer[:n])
			} else if err != nil && !err.(net.Error).Timeout() {
				return "closed"
			}
			if _, err := socket.Write(one); err != nil {
				return "closed"
			}
			continue
		}
		socket.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := socket.Read(one); err != nil {
			return "closed"
		}
		if len(line) < 12 {
			if line = append(line, one[0]); len(line) == 12 && string(line[9:12]) != "200" {
				return statusOf(line)
			}
		}
	}
}

func statusOf(line []byte) string {
	if len(line) >= 12 && string(line[:5]) == "HTTP/" {
		return string(line[9:12])
	}
	return "closed"
}
