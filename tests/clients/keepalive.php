<?php
// Asks a server over persistent connections, and tells what was lost.
//
//     php keepalive.php http://127.0.0.1:PORT
//
// Each connection belongs to a curl handle of its own, except for two that are opened for each request
// anew, as PHP's streams do. Curl sends a request again whose connection had been closed, unless it has
// a body that cannot be read again: so every other handle uploads. They take turns, and so pauses are
// as long as the others take, or longer, up to a second. Each time that all have had their last answer
// from one process, and it is another one than before, the line `all PID` is printed. When stdin ends,
// one line of JSON says what came of it.

const HANDLES = 8;
const STREAMS = 2;
const TIME_LIMIT = 15;

/** One who asks: what it does, and when it is due. */
abstract class Client
{
    public int $requests = 0;
    public float $due = 0;

    public function __construct(protected string $base, private bool $isSlow)
    {
    }

    /** Returns the status, the headers with small names, and the body. */
    abstract protected function send(): array;

    /** Whether this is the beginning of the right answer. */
    protected function wanted(array $headers): string
    {
        return "pid={$headers['x-pid']}\nok\n";
    }

    public function ask(): array
    {
        $this->requests += 1;
        $this->due = microtime(true) + ($this->isSlow ? random_int(100, 1000) / 1000 : 0.002);
        [$status, $headers, $body] = $this->send();
        if ($status !== 200 || !str_starts_with($body, $this->wanted($headers))) {
            throw new Exception("status $status, " . json_encode($body));
        }
        return $headers;
    }
}

function headers(array $lines): array
{
    $headers = [];
    foreach ($lines as $line) {
        $parts = explode(':', $line, 2);
        if (count($parts) === 2) {
            $headers[strtolower($parts[0])] = trim($parts[1]);
        }
    }
    return $headers;
}

/** Keeps its connection. */
class Page extends Client
{
    protected CurlHandle $handle;
    private array $lines = [];

    public function __construct(string $base, bool $isSlow)
    {
        parent::__construct($base, $isSlow);
        $this->handle = curl_init();
    }

    protected function path(): string
    {
        return $this->requests % 4 === 0 ? '/slow?ms=20' : '/';
    }

    protected function send(): array
    {
        $this->lines = [];
        curl_setopt_array($this->handle, [
            CURLOPT_URL => $this->base . $this->path(),
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => TIME_LIMIT,
            CURLOPT_HEADERFUNCTION => function ($_, string $line): int {
                $this->lines[] = $line;
                return strlen($line);
            },
        ]);
        $body = curl_exec($this->handle);
        if ($body === false) {
            throw new Exception('curl: ' . curl_error($this->handle));
        }
        $status = curl_getinfo($this->handle, CURLINFO_RESPONSE_CODE);
        return [$status, headers($this->lines), $body];
    }
}

/** The same, with a body that can be read once, and whose length nobody knows before. */
class Upload extends Page
{
    private int $left = 0;

    private function size(): int
    {
        return 1000 * (1 + $this->requests % 20);
    }

    protected function path(): string
    {
        $this->left = $this->size();
        curl_setopt_array($this->handle, [
            CURLOPT_POST => true,
            CURLOPT_READFUNCTION => function ($_, $__, int $most): string {
                $length = min($most, $this->left);
                $this->left -= $length;
                return str_repeat('x', $length);
            },
        ]);
        return '/upload';
    }

    protected function wanted(array $headers): string
    {
        return "len={$this->size()} ";
    }
}

/** Opens a connection for each request. */
class Stream extends Client
{
    protected function send(): array
    {
        $context = stream_context_create(['http' => ['timeout' => TIME_LIMIT, 'ignore_errors' => true]]);
        $body = @file_get_contents($this->base . '/', false, $context);
        if ($body === false) {
            throw new Exception('stream: ' . (error_get_last()['message'] ?? 'no answer'));
        }
        $status = (int) explode(' ', $http_response_header[0])[1];
        return [$status, headers($http_response_header), $body];
    }
}

$clients = [];
for ($number = 0; $number < HANDLES; $number++) {
    $isSlow = $number % 4 >= 2;
    $clients[] = $number % 2 ? new Upload($argv[1], $isSlow) : new Page($argv[1], $isSlow);
}
for ($number = 0; $number < STREAMS; $number++) {
    $clients[] = new Stream($argv[1], $number > 0);
}
$latest = array_fill(0, count($clients), null);
$agreed = null;
$result = ['requests' => 0, 'told' => 0, 'failures' => []];
stream_set_blocking(STDIN, false);
while (fread(STDIN, 1) !== false && !feof(STDIN)) {
    $due = array_map(fn (Client $client): float => $client->due, $clients);
    $number = array_search(min($due), $due);
    usleep((int) (1e6 * max(0, min($due) - microtime(true))));
    $result['requests'] += 1;
    try {
        $headers = $clients[$number]->ask();
    } catch (Exception $error) { // whatever it is, the request was lost
        $which = get_class($clients[$number]);
        $nth = $clients[$number]->requests;
        $result['failures'][] = "$which $number, request $nth: {$error->getMessage()}";
        continue;
    }
    $isKept = !$clients[$number] instanceof Stream;
    $result['told'] += (int) ($isKept && ($headers['connection'] ?? '') === 'close');
    $latest[$number] = $pid = $headers['x-pid'];
    if ($pid !== $agreed && array_unique($latest) === [$pid]) {
        $agreed = $pid;
        echo "all $pid\n";
    }
}
echo json_encode($result), "\n";
