// hashicorp's yamux as a peer program. What it does is told at the top of src/peer/engine.rs.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const period = 251

// What a direction of a stream carries, often enough for any write.
var pattern = make([]byte, 20<<20)

var errNoReset = errors.New("the library has no way to reset a stream")

// A stream that orders name.
type held struct {
	stream                  *yamux.Stream
	readLock, writeLock     sync.Mutex
	bytesRead, bytesWritten int
}

type program struct {
	session *yamux.Session
	lock    sync.Mutex
	streams []*held
}

func main() {
	dial := flag.String("dial", "", "make the connection")
	listen := flag.String("listen", "", "wait for the connection")
	serve := flag.Bool("serve", false, "echo whatever is opened")
	flag.Parse()
	for at := range pattern {
		pattern[at] = byte(at % period)
	}
	conn, err := connect(*dial, *listen)
	if err != nil {
		log.Fatal(err)
	}
	make := yamux.Server
	if *dial != "" {
		make = yamux.Client
	}
	session, err := make(conn, nil)
	if err != nil {
		log.Fatal(err)
	}
	p := &program{session: session}
	fmt.Println("up")
	if *serve {
		go p.serve()
	}
	go func() {
		<-session.CloseChan()
		_, err := session.AcceptStream()
		fmt.Println("down", err)
	}()
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		words := strings.Split(orders.Text(), " ")
		go func() {
			answer, err := p.obey(words[1:])
			switch {
			case err == errNoReset:
				fmt.Println(words[0], "n/a", err)
			case err != nil:
				fmt.Println(words[0], "fail", err)
			default:
				fmt.Println(words[0], "ok", answer)
			}
		}()
	}
}

func connect(dial, listen string) (net.Conn, error) {
	if dial != "" {
		return net.Dial("tcp", dial)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	fmt.Println("listening", listener.Addr())
	defer listener.Close()
	// Who started the program may be gone.
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	return listener.Accept()
}

func (p *program) obey(words []string) (string, error) {
	numbers := []int{0, 0, 0, 0}
	for at, word := range words[1:] {
		number, err := strconv.Atoi(word)
		if err != nil {
			return "", err
		}
		numbers[at] = number
	}
	switch words[0] {
	case "serve":
		go p.serve()
		return "", nil
	case "open":
		return p.hold(p.session.OpenStream())
	case "accept":
		return p.hold(p.session.AcceptStream())
	case "echo":
		return p.echo(numbers[0], numbers[1], numbers[2], time.Duration(numbers[3])*time.Second)
	case "ping":
		took, err := p.session.Ping()
		return strconv.FormatInt(took.Microseconds(), 10), err
	case "go-away":
		return "", p.session.GoAway()
	}
	p.lock.Lock()
	h := p.streams[numbers[0]-1]
	p.lock.Unlock()
	switch words[0] {
	case "write":
		h.writeLock.Lock()
		defer h.writeLock.Unlock()
		begin := h.bytesWritten % period
		h.bytesWritten += numbers[1]
		_, err := h.stream.Write(pattern[begin : begin+numbers[1]])
		return "", err
	case "read":
		_, err := h.read(numbers[1])
		return "", err
	case "end":
		read, err := h.read(-1)
		switch {
		case err == io.EOF:
			return fmt.Sprintf("eof %d", read), nil
		case err == errWrong:
			return "", err
		default:
			return fmt.Sprintf("error %d %v", read, err), nil
		}
	case "flood":
		written := 0
		for written < 64<<20 {
			if _, err := h.stream.Write(pattern[:4096]); err != nil {
				return fmt.Sprintf("error %d %v", written, err), nil
			}
			written += 4096
		}
		return fmt.Sprintf("no-error %d", written), nil
	case "fin":
		return "", h.stream.Close()
	case "reset":
		return "", errNoReset
	}
	return "", fmt.Errorf("`%s` is no order", words[0])
}

func (p *program) hold(stream *yamux.Stream, err error) (string, error) {
	if err != nil {
		return "", err
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	p.streams = append(p.streams, &held{stream: stream})
	return strconv.Itoa(len(p.streams)), nil
}

func (p *program) serve() {
	for {
		stream, err := p.session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			if _, err := io.Copy(stream, stream); err == nil {
				stream.Close()
			}
		}()
	}
}

func (p *program) echo(count, atOnce, size int, within time.Duration) (string, error) {
	until := time.After(within)
	places := make(chan struct{}, atOnce)
	outcomes := make(chan error, count)
	for i := 0; i < count; i++ {
		go func() {
			places <- struct{}{}
			outcomes <- p.echoOne(size)
			<-places
		}()
	}
	done, lost := 0, 0
	var first error
	for done+lost < count {
		select {
		case err := <-outcomes:
			if err == nil {
				done++
				continue
			}
			lost++
			if first == nil {
				first = err
			}
		case <-until:
			lost = count - done
			if first == nil {
				first = fmt.Errorf("no end within %v", within)
			}
		}
	}
	if first == nil {
		return fmt.Sprintf("%d %d ", done, lost), nil
	}
	return fmt.Sprintf("%d %d %v", done, lost, first), nil
}

// One stream, and one reply, which is the request. The stream is closed when the reply is there: this version of the
// library reads nothing more after that.
func (p *program) echoOne(size int) error {
	stream, err := p.session.OpenStream()
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(pattern[:size])
		written <- err
	}()
	h := &held{stream: stream}
	if _, err := h.read(size); err != nil {
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	return nil
}

var errWrong = errors.New("wrong bytes")

// Reads so many bytes, or all there are, and checks them.
func (h *held) read(count int) (int, error) {
	h.readLock.Lock()
	defer h.readLock.Unlock()
	buffer := make([]byte, 64<<10)
	read := 0
	for count < 0 || read < count {
		most := len(buffer)
		if count >= 0 && count-read < most {
			most = count - read
		}
		n, err := h.stream.Read(buffer[:most])
		begin := h.bytesRead % period
		if !bytes.Equal(buffer[:n], pattern[begin:begin+n]) {
			return read, errWrong
		}
		h.bytesRead += n
		read += n
		if err != nil {
			return read, err
		}
	}
	return read, nil
}
