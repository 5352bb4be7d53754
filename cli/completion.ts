// `netloom completion SHELL`: a completion script made from the command table itself.

import type { Command } from 'commander';
import { NetloomError } from '../api/errors.ts';
import { print } from './output.ts';

export function completion(shell: string, program: Command): void {
  const table = program.commands.map((command) => ({ name: command.name(), words: [...command.commands.map((sub) => sub.name()), ...command.options.flatMap((option) => (option.long === undefined || option.long === null ? [] : [option.long]))] }));
  const names = table.map((row) => row.name).join(' ');
  if (shell === 'bash' || shell === 'zsh') {
    if (shell === 'zsh') print('autoload -U +X bashcompinit && bashcompinit');
    print('_netloom() {\n  local cur=${COMP_WORDS[COMP_CWORD]}\n  case "${COMP_WORDS[1]}" in');
    for (const row of table) print(`    ${row.name}) [ "$COMP_CWORD" -gt 1 ] && { COMPREPLY=($(compgen -W "${row.words.join(' ')}" -- "$cur")); return; } ;;`);
    print(`  esac\n  COMPREPLY=($(compgen -W "${names}" -- "$cur"))\n}\ncomplete -o default -F _netloom netloom`);
  } else if (shell === 'fish') {
    print(`complete -c netloom -n __fish_use_subcommand -f -a "${names}"`);
    for (const row of table) print(`complete -c netloom -n "__fish_seen_subcommand_from ${row.name}" -a "${row.words.join(' ')}"`);
  } else throw new NetloomError('ConfigInvalid', `no completion for "${shell}"`, { source: 'config', hint: 'bash, zsh or fish' });
}
