select 1 as lost where (select count(*) from {{ ref('large') }}) + (select count(*) from {{ ref('small') }}) <> 4
