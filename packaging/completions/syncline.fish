# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_syncline_global_optspecs
    string join \n h/help V/version
end

function __fish_syncline_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_syncline_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_syncline_using_subcommand
    set -l cmd (__fish_syncline_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c syncline -n "__fish_syncline_needs_command" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_needs_command" -s V -l version -d 'Print version'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "demo" -d 'Shows a writer and two readers at work on real data'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "serve" -d 'Runs a node'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "shell" -d 'Runs SQL on a node'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "status" -d 'Shows how a node and its databases are doing'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "health" -d 'Asks whether a node is alive, or may be used'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "explain" -d 'Says what a configuration promises, and what each failure costs'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "config" -d 'Checks or shows a configuration'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "verify" -d 'Recounts every row of a copy and compares'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "held" -d 'Shows, replays or discards what a copy could not apply or had to undo'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "promote" -d 'Makes a reader the writer'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "resolve" -d 'Decides a restore: which side to keep'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "adopt" -d 'Makes a backing database of a PostgreSQL database that has tables already'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "release" -d 'Removes every trace of Syncline from a PostgreSQL database. The rows stay'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "diff" -d 'Says whether two databases are equal, and which rows are not'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "sync" -d 'Makes one database equal to another'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "gateway" -d 'Stands beside a database, so that `diff` and `sync` elsewhere reach it over a thin line'
complete -c syncline -n "__fish_syncline_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand demo" -l port -d 'The writer\'s port; the readers take the next two, administration ten more' -r
complete -c syncline -n "__fish_syncline_using_subcommand demo" -l for -d 'Ends by itself after this time, such as 30s' -r
complete -c syncline -n "__fish_syncline_using_subcommand demo" -l no-traffic -d 'Writes nothing after the data is loaded'
complete -c syncline -n "__fish_syncline_using_subcommand demo" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand serve" -s c -l config -d 'The configuration; without it: one database `main`, a writer on `sqlite:main.db`' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l data-dir -d 'Where the node keeps its own files' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l listen -d 'Where clients connect' -r
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l admin-listen -d 'Where operators connect' -r
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l peer-listen -d 'Where other nodes connect (nothing listens there in this version)' -r
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l log-format -d 'How log lines are written' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c syncline -n "__fish_syncline_using_subcommand serve" -l take-over -d 'Takes the place of a writer that seems alive. It will be fenced'
complete -c syncline -n "__fish_syncline_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c syncline -n "__fish_syncline_using_subcommand shell" -s c -l command -d 'Runs this and ends' -r
complete -c syncline -n "__fish_syncline_using_subcommand shell" -l format -d 'How results are written' -r -f -a "table\t'Aligned columns'
csv\t'With a header line'
json\t'One JSON object a row and line'"
complete -c syncline -n "__fish_syncline_using_subcommand shell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c syncline -n "__fish_syncline_using_subcommand status" -l watch -d 'Shows it again every second'
complete -c syncline -n "__fish_syncline_using_subcommand status" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand status" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand health" -l role -d 'Asks whether its databases may be used in this role, too' -r -f -a "writer\t'To write'
reader\t'To read; other nodes write'"
complete -c syncline -n "__fish_syncline_using_subcommand health" -l max-stale -d 'Asks whether their rows are no older than this, too, such as 5s' -r
complete -c syncline -n "__fish_syncline_using_subcommand health" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c syncline -n "__fish_syncline_using_subcommand explain" -s c -l config -d 'The configuration; without it, what `serve` does without one' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand explain" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand explain" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand config; and not __fish_seen_subcommand_from check show help" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand config; and not __fish_seen_subcommand_from check show help" -f -a "check" -d 'Says everything that is wrong with it'
complete -c syncline -n "__fish_syncline_using_subcommand config; and not __fish_seen_subcommand_from check show help" -f -a "show" -d 'Prints it as meant, with where each value came from; secrets are hidden'
complete -c syncline -n "__fish_syncline_using_subcommand config; and not __fish_seen_subcommand_from check show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from check" -s c -l config -d 'The configuration' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from show" -s c -l config -d 'The configuration' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "check" -d 'Says everything that is wrong with it'
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Prints it as meant, with where each value came from; secrets are hidden'
complete -c syncline -n "__fish_syncline_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand verify" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand verify" -l adopt -d 'Makes a commit of rows that were changed behind Syncline\'s back'
complete -c syncline -n "__fish_syncline_using_subcommand verify" -l repair -d 'Writes the old rows back'
complete -c syncline -n "__fish_syncline_using_subcommand verify" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -f -a "list" -d 'Lists them'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -f -a "show" -d 'Shows one with its changes'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -f -a "replay" -d 'Applies one again, as a new commit at the writer'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -f -a "discard" -d 'Forgets one'
complete -c syncline -n "__fish_syncline_using_subcommand held; and not __fish_seen_subcommand_from list show replay discard help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from list" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from show" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from replay" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from replay" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from discard" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from discard" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from help" -f -a "list" -d 'Lists them'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from help" -f -a "show" -d 'Shows one with its changes'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from help" -f -a "replay" -d 'Applies one again, as a new commit at the writer'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from help" -f -a "discard" -d 'Forgets one'
complete -c syncline -n "__fish_syncline_using_subcommand held; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand promote" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand promote" -l to -d 'The node that shall become the writer; must be the one asked' -r
complete -c syncline -n "__fish_syncline_using_subcommand promote" -l accept-loss -d 'Goes on although acknowledged writes may be lost'
complete -c syncline -n "__fish_syncline_using_subcommand promote" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand resolve" -l database -d 'The database; may be left out where the node has one, or the URL names it' -r
complete -c syncline -n "__fish_syncline_using_subcommand resolve" -l keep -d 'Which side to keep' -r -f -a "node\t'This node\'s copy'
backing\t'What lies in the backing database'"
complete -c syncline -n "__fish_syncline_using_subcommand resolve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c syncline -n "__fish_syncline_using_subcommand adopt" -l exclude -d 'Leaves this table as it is; may be given several times' -r
complete -c syncline -n "__fish_syncline_using_subcommand adopt" -l yes -d 'Goes on. Without it, only the plan is printed'
complete -c syncline -n "__fish_syncline_using_subcommand adopt" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand adopt" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand release" -l yes -d 'Goes on. Without it, only the plan is printed'
complete -c syncline -n "__fish_syncline_using_subcommand release" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand release" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l tables -d 'Only these tables, separated by commas' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l exclude -d 'Not this table; may be given several times, or with commas' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l where -d 'Only rows of a table for which an SQL condition holds, on both sides: --where \'orders:year >= 2024\'' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l columns -d 'Only these columns of a table (and its key), separated by commas: --columns orders.state,orders.total' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l rows -d 'How many differing rows of a table are printed; 0: all' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l settle -d 'Looks once more after so long, where B follows A with a delay' -r
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l types -d 'Prints as what each column was compared'
complete -c syncline -n "__fish_syncline_using_subcommand diff" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand diff" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -s c -l config -d 'A file with [[sync]] tables, all of which are followed' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l tables -d 'Only these tables, separated by commas' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l exclude -d 'Not this table; may be given several times, or with commas' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l where -d 'Only rows of a table for which an SQL condition holds, on both sides: --where \'orders:year >= 2024\'' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l columns -d 'Only these columns of a table (and its key), separated by commas: --columns orders.state,orders.total' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l every -d 'The pause between two rounds' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l version-column -d 'The column that grows with every change of a row, by table; may be given several times' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l overlap -d 'For so long a transaction may be open after it has taken a version (PostgreSQL tells by itself)' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l walk -d 'Within this time a table with a version column is compared whole, a part in each round' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l state -d 'Keeps the position in this file, and makes no table in B for it' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l max-delete -d 'Stops before more of a table than this is deleted: a number of rows, or a share' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l limit-rate -d 'Bytes of rows a second, such as 1MiB/s' -r
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l follow -d 'Goes on until it is stopped'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l dry-run -d 'Writes nothing; says what would change'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l create -d 'Makes tables that B lacks'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l yes -d 'Deletes however many rows must go'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l force-retry -d 'Tries held rows again although they have not changed'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -l json -d 'One JSON object a line'
complete -c syncline -n "__fish_syncline_using_subcommand sync" -s h -l help -d 'Print help'
complete -c syncline -n "__fish_syncline_using_subcommand gateway" -l listen -d 'Where diff and sync connect' -r
complete -c syncline -n "__fish_syncline_using_subcommand gateway" -s c -l config -d '[tls], [auth], [limits], and node.listen, node.hosts' -r -F
complete -c syncline -n "__fish_syncline_using_subcommand gateway" -l log-format -d 'How log lines are written' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c syncline -n "__fish_syncline_using_subcommand gateway" -l read-only -d 'Lets nobody write'
complete -c syncline -n "__fish_syncline_using_subcommand gateway" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "demo" -d 'Shows a writer and two readers at work on real data'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "serve" -d 'Runs a node'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "shell" -d 'Runs SQL on a node'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "status" -d 'Shows how a node and its databases are doing'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "health" -d 'Asks whether a node is alive, or may be used'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "explain" -d 'Says what a configuration promises, and what each failure costs'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "config" -d 'Checks or shows a configuration'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "verify" -d 'Recounts every row of a copy and compares'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "held" -d 'Shows, replays or discards what a copy could not apply or had to undo'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "promote" -d 'Makes a reader the writer'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "resolve" -d 'Decides a restore: which side to keep'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "adopt" -d 'Makes a backing database of a PostgreSQL database that has tables already'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "release" -d 'Removes every trace of Syncline from a PostgreSQL database. The rows stay'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "diff" -d 'Says whether two databases are equal, and which rows are not'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "sync" -d 'Makes one database equal to another'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "gateway" -d 'Stands beside a database, so that `diff` and `sync` elsewhere reach it over a thin line'
complete -c syncline -n "__fish_syncline_using_subcommand help; and not __fish_seen_subcommand_from demo serve shell status health explain config verify held promote resolve adopt release diff sync gateway help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Says everything that is wrong with it'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Prints it as meant, with where each value came from; secrets are hidden'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from held" -f -a "list" -d 'Lists them'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from held" -f -a "show" -d 'Shows one with its changes'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from held" -f -a "replay" -d 'Applies one again, as a new commit at the writer'
complete -c syncline -n "__fish_syncline_using_subcommand help; and __fish_seen_subcommand_from held" -f -a "discard" -d 'Forgets one'
