# Asks a server over persistent connections, and tells what was lost.
#
#     ruby keepalive.rb http://127.0.0.1:PORT
#
# Each connection is a Net::HTTP of its own, which keeps it open, and retries nothing. Half of them
# upload. Pauses between two requests are short, or long, up to a second. Each time that all
# connections have had their last answer from one process, and it is another one than before, the line
# `all PID` is printed. When stdin ends, each finishes its request, and one line of JSON says what came
# of it.

require 'json'
require 'net/http'

CONNECTIONS = 8
TIME_LIMIT = 15

# What came of it, and who has answered.
class Outcome
  def initialize
    @lock = Mutex.new
    @latest = Array.new(CONNECTIONS)
    @result = { requests: 0, told: 0, failures: [] }
  end

  def begun
    @lock.synchronize { @result[:requests] += 1 }
  end

  def answered(number, response)
    @lock.synchronize do
      @result[:told] += 1 if response['connection'] == 'close'
      pid = @latest[number] = response['x-pid']
      if pid != @agreed && @latest.all?(pid)
        @agreed = pid
        puts "all #{pid}"
      end
    end
  end

  def failed(text)
    @lock.synchronize { @result[:failures] << text }
  end

  def to_json(*)
    @result.to_json
  end
end

def open_connection(base)
  connection = Net::HTTP.new(base.host, base.port)
  connection.max_retries = 0
  # By itself it opens another one after two seconds.
  connection.keep_alive_timeout = 60
  connection.open_timeout = connection.read_timeout = TIME_LIMIT
  connection.start
end

def ask(connection, number, nth)
  if number.even?
    response = connection.get((nth % 4).zero? ? '/slow?ms=20' : '/')
    wanted = "pid=#{response['x-pid']}\nok\n"
  else
    body = 'x' * (1000 * (1 + nth % 20))
    response = connection.post('/upload', body)
    wanted = "len=#{body.size} "
  end
  return response if response.code == '200' && response.body.start_with?(wanted)

  raise "status #{response.code}, #{response.body.inspect}"
end

def drive(number, base, outcome, stop)
  connection = nil
  (1..).each do |nth|
    outcome.begun
    begin
      connection ||= open_connection(base)
      outcome.answered(number, ask(connection, number, nth))
    rescue StandardError => e # whatever it is, the request was lost
      outcome.failed("connection #{number}, request #{nth}: #{e.class}: #{e}")
      connection = nil
    end
    pause = rand(0.001..0.05) * (number % 4 < 2 ? 1 : 20)
    break if stop.wait(pause)
  end
end

# What all connections wait for.
class Stop
  def initialize
    @lock = Mutex.new
    @changed = ConditionVariable.new
    @stopped = false
  end

  def set
    @lock.synchronize do
      @stopped = true
      @changed.broadcast
    end
  end

  # Whether it has come, after so many seconds at most.
  def wait(timeout)
    @lock.synchronize do
      @changed.wait(@lock, timeout) unless @stopped
      @stopped
    end
  end
end

$stdout.sync = true
Thread.report_on_exception = true
base = URI(ARGV[0])
outcome = Outcome.new
stop = Stop.new
drives = CONNECTIONS.times.map { |number| Thread.new { drive(number, base, outcome, stop) } }
$stdin.read
stop.set
drives.each(&:join)
puts outcome.to_json
