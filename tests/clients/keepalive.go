// Asks a server over persistent connections, and tells what was lost.
//
//	go run keepalive.go http://127.0.0.1:PORT
//	go run keepalive.go https://localhost:PORT authority.pem
//
// Each connection belongs to a transport of its own. Go sends a request for a page again if its
// connection had been closed, so every other connection uploads what can be sent only once; half of
// those ask for leave before. Over TLS all speak HTTP/2, and ask for no leave: hyper gives it in HTTP/1
// only. Pauses between two requests are short, or long, up to a second. Each time that all connections
// have had their last answer from one process, and it is another one than before, the line `all PID`
// is printed. When stdin ends, each finishes its request, and one line of JSON says what came of it.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	connections = 8
	timeLimit   = 15 * time.Second
)

// result is what came of it, and who has answered.
type result struct {
	sync.Mutex
	latest   [connections]string
	agreed   string
	Requests int      `json:"requests"`
	Told     int      `json:"told"`
	Failures []string `json:"failures"`
}

func (r *result) answered(number int, pid string, told bool) {
	r.Lock()
	defer r.Unlock()
	if told {
		r.Told++
	}
	r.latest[number] = pid
	for _, other := range r.latest {
		if other != pid {
			return
		}
	}
	if pid != r.agreed {
		r.agreed = pid
		fmt.Printf("all %s\n", pid)
	}
}

func (r *result) failed(number, nth int, err error) {
	r.Lock()
	defer r.Unlock()
	r.Failures = append(r.Failures, fmt.Sprintf("connection %d, request %d: %v", number, nth, err))
}

// once hides from the transport that its bytes could be read again.
type once struct{ io.Reader }

func request(base string, number, nth int) (*http.Request, error) {
	if number%2 == 0 {
		path := "/"
		if nth%4 == 0 {
			path = "/slow?ms=20"
		}
		return http.NewRequest(http.MethodGet, base+path, nil)
	}
	size := 1000 * (1 + nth%20)
	body := once{bytes.NewReader(bytes.Repeat([]byte{'x'}, size))}
	request, err := http.NewRequest(http.MethodPost, base+"/upload", body)
	if err == nil && number%4 == 1 && strings.HasPrefix(base, "http:") {
		request.ContentLength = int64(size)
		request.Header.Set("Expect", "100-continue")
	}
	return request, err
}

// ask returns who has answered, and whether it was the last answer of the connection.
func ask(client *http.Client, base string, number, nth int) (string, bool, error) {
	request, err := request(base, number, nth)
	if err != nil {
		return "", false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", false, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", false, err
	}
	pid := response.Header.Get("X-Pid")
	wanted := fmt.Sprintf("pid=%s\nok\n", pid)
	if number%2 == 1 {
		wanted = fmt.Sprintf("len=%d ", 1000*(1+nth%20))
	}
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), wanted) {
		return "", false, fmt.Errorf("%s, %q", response.Status, body)
	}
	return pid, response.Close, nil
}

// trusted says who vouches for the server; nil without TLS.
func trusted() *tls.Config {
	if len(os.Args) < 3 {
		return nil
	}
	authority, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{RootCAs: pool}
}

func (r *result) drive(base string, number int, stop <-chan struct{}) {
	transport := &http.Transport{
		MaxConnsPerHost:       1,
		ExpectContinueTimeout: timeLimit,
		TLSClientConfig:       trusted(),
		ForceAttemptHTTP2:     true,
	}
	client := &http.Client{Transport: transport, Timeout: timeLimit}
	for nth := 1; ; nth++ {
		r.Lock()
		r.Requests++
		r.Unlock()
		if pid, told, err := ask(client, base, number, nth); err != nil {
			r.failed(number, nth, err)
		} else {
			r.answered(number, pid, told)
		}
		pause := time.Duration(1+rand.Intn(50)) * time.Millisecond
		if number%4 >= 2 {
			pause *= 20
		}
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

func main() {
	result := &result{Failures: []string{}}
	stop := make(chan struct{})
	var drives sync.WaitGroup
	for number := 0; number < connections; number++ {
		drives.Add(1)
		go func(number int) {
			defer drives.Done()
			result.drive(os.Args[1], number, stop)
		}(number)
	}
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	drives.Wait()
	json.NewEncoder(os.Stdout).Encode(result)
}
