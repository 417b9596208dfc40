select code, name, population from {{ ref('countries') }} where population > 1000000
